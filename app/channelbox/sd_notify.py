"""sd_notify(3): report the state of this process to systemd."""

import os
import socket
import threading
import time
from collections.abc import Callable

EXTENSION_SECONDS = 30  # that a start is granted at each sign of progress
TICK_SECONDS = 1.0  # between two checks of the progress
MIN_PROGRESS_CPU_SECONDS = 0.05  # a process that only waits uses less
MAX_START_CPU_SECONDS = 300.0  # a start that has used more is in an endless loop

_ready = threading.Event()


def notify(state: str) -> None:
    """Send a state such as `READY=1`, `WATCHDOG=1` or `STATUS=...`. Sends nothing outside a unit with Type=notify."""
    if state.startswith("READY=1"):
        _ready.set()
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())


def watchdog_seconds() -> float | None:
    """Return the seconds between two WATCHDOG=1, half of what the unit allows; None without a watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2_000_000 if microseconds else None


class StartProgress:
    """Decides whether a start has made progress since its timeout was last extended.

    Progress is CPU time: a slow machine grants little of it, a process that hangs uses none, and an endless loop has
    used MAX_START_CPU_SECONDS sooner or later.
    """

    def __init__(self, cpu_seconds: Callable[[], float] = time.process_time) -> None:
        self._cpu_seconds = cpu_seconds
        self._extended_at = 0.0  # CPU time at the last extension

    def made(self) -> bool:
        """Return whether to extend the timeout now. If so, further progress is counted from here."""
        used = self._cpu_seconds()
        if used > MAX_START_CPU_SECONDS or used - self._extended_at < MIN_PROGRESS_CPU_SECONDS:
            return False
        self._extended_at = used
        return True


def extend_start_while_it_progresses() -> None:
    """Extend TimeoutStartSec= until `READY=1` is sent, as long as this process makes progress. Returns at once.

    Without this, a machine that is slow for a while never starts: systemd kills the process and starts it again, which
    costs as much again.
    """
    if os.environ.get("NOTIFY_SOCKET"):
        threading.Thread(target=_extend, name="extend start", daemon=True).start()


def _extend() -> None:
    progress = StartProgress()
    status = "STATUS=Starting\n"  # sent once, because the process may report a more specific status later
    while not _ready.is_set():
        if progress.made():
            notify(f"{status}EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}")
            status = ""
        _ready.wait(TICK_SECONDS)
