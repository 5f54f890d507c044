"""Commands, progress messages, and the error that the user of the node tool reads."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

_STARTED = time.monotonic()


class NodeError(Exception):
    """An error that stops the tool. Its text says what is wrong and what to do."""


def say(text: str) -> None:
    """Write one line of progress to stderr, with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:5.0f} s] {text}", file=sys.stderr, flush=True)


def _failed(command: Sequence[str], code: int, output: str) -> NoReturn:
    shown = " ".join(command)
    raise NodeError(f"this command ended with code {code}: {shown}\n{output.strip()}")


def run(command: Sequence[str], *, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; raise NodeError with stdout and stderr if it fails."""
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        _failed(command, done.returncode, done.stdout + done.stderr)
    return done.stdout


def succeeds(command: Sequence[str], *, env: dict[str, str] | None = None) -> bool:
    """Return whether a command exits with 0; its output is discarded."""
    return subprocess.run(command, env=env, capture_output=True, check=False).returncode == 0
