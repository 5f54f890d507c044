"""`channelbox restart`: the web and worker processes of this node, one after another."""

import os
import re
import socket
import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from channelbox.cli.errors import CliError, give_up

WEB_SOCKET = Path("/run/channelbox/web.sock")
READY_SECONDS = 600.0  # for one process; systemd itself waits for as long as it makes progress
ANSWER_SECONDS = 30.0  # for a response of a process that has reported ready to systemd
PAUSE_SECONDS = 0.2  # between two attempts to get one
ANSWER = re.compile(rb"HTTP/1\.[01] [24]\d\d ")  # from the application: the request does not go through nginx


class Kind(StrEnum):
    """Which processes to restart."""

    web = "web"
    worker = "worker"
    all = "all"


def restart(kind: Annotated[Kind, typer.Argument(help="Which processes to restart.")] = Kind.all) -> None:
    """Restart the processes of this node one after another. No client is refused and no message is lost.

    Each process must be ready and answer before the next one is restarted. If one does not come back, the command
    exits with status 1 and leaves the others as they are. The exit status is 0 if no process is running.
    """
    if os.geteuid() != 0:
        give_up("This command must run as root, as it uses systemctl.", "Run it with sudo.")
    kinds = ["web", "worker"] if kind is Kind.all else [kind.value]
    units = [unit for each in kinds for unit in running(each)]
    if not units:
        typer.echo(f"No {' or '.join(kinds)} process is running on this node.")
    for number, unit in enumerate(units, 1):
        trouble = restart_one(unit)
        if trouble:
            left = units[number:]
            raise CliError(
                f"{unit} did not come back: {trouble}" + (f" Not restarted: {', '.join(left)}." if left else ""),
                f"To find out why, run: journalctl -u {unit} -n 50. Then try again: channelbox restart {kind.value}",
            )
        typer.echo(f"{unit} is back ({number} of {len(units)}).")


def running(kind: str) -> list[str]:
    """Return the units of this kind that are running, then those that are starting, each in the order of numbers."""
    shown = _systemctl("show", "--property=Id,ActiveState", f"channelbox-{kind}@*.service").stdout
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    states = {block["Id"]: block["ActiveState"] for block in blocks if block}
    found = sorted(states, key=lambda unit: (len(unit), unit))
    return [unit for state in ("active", "activating") for unit in found if states[unit] == state]


def restart_one(unit: str) -> str:
    """Restart one unit and wait until it answers. Return what is wrong, or "" if nothing is."""
    try:
        done = _systemctl("restart", unit, seconds=READY_SECONDS)
    except subprocess.TimeoutExpired:
        return f"it is not ready after {READY_SECONDS / 60:.0f} minutes. systemd is still starting it."
    if done.returncode:
        return next(iter(done.stderr.strip().splitlines()), f"systemctl failed with exit status {done.returncode}.")
    # systemctl has waited until the unit reported ready. A worker does so when the queue has answered it.
    if unit.startswith("channelbox-web@") and not _serves_a_page():
        return f"it is ready, but no process answers on {WEB_SOCKET} within {ANSWER_SECONDS:.0f} s."
    if _systemctl("is-active", "--quiet", unit).returncode:
        return "it became ready, but then ended."
    return ""


def _serves_a_page() -> bool:
    """Return whether a request through the socket that this node's web processes share is answered.

    400 is an answer too: the host names that the installation accepts are not known here.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as web:
            web.settimeout(ANSWER_SECONDS)
            try:
                web.connect(str(WEB_SOCKET))
                web.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                if ANSWER.match(web.recv(64)):
                    return True
            except OSError:
                pass
        time.sleep(PAUSE_SECONDS)
    return False


def _systemctl(*arguments: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=seconds)
