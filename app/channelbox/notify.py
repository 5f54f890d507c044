"""Telling systemd: sd_notify(3) in a few lines, as the manual page shows it."""

import os
import socket


def notify(state: str) -> None:
    """Sends e.g. `READY=1`, `WATCHDOG=1` or `STATUS=...`. Does nothing outside a notifying unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(address)
        channel.sendall(state.encode())


def watchdog_seconds() -> float | None:
    """How often to send WATCHDOG=1: half of what the unit allows; None without a watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2_000_000 if microseconds else None
