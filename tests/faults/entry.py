"""The `channelbox` command in a process that can be made to die at a chosen place, or is broken on purpose.

CHANNELBOX_ variables would be settings; these are the tests' own:
FAULTS_TRAPS: a folder. A worker that finds a file named after a place there takes it away and kills itself: before or
after the next COMMIT. FAULTS_BROKEN: a word of `broken.py`.
"""

import os
import signal
import sys
from pathlib import Path

BEFORE_COMMIT, AFTER_COMMIT = "before-commit", "after-commit"


def trap(place: str) -> None:
    """Dies here if this is wished for. Only one process does: the one that takes the file away."""
    try:
        (Path(os.environ["FAULTS_TRAPS"]) / place).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def set_traps() -> None:
    """Every COMMIT of this process has one in front of it and one behind it: PUBLISH comes later."""
    from django.db.backends.base.base import BaseDatabaseWrapper

    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]

    def trapped(self: BaseDatabaseWrapper) -> None:
        trap(BEFORE_COMMIT)
        commit(self)
        trap(AFTER_COMMIT)

    BaseDatabaseWrapper._commit = trapped  # type: ignore[attr-defined]


if __name__ == "__main__":
    import django

    from channelbox.cli.main import main

    if "worker" in sys.argv:
        set_traps()
    if word := os.environ.get("FAULTS_BROKEN"):
        from tests.faults.broken import break_it

        os.environ["DJANGO_SETTINGS_MODULE"] = "channelbox.settings"
        django.setup()
        break_it(word)
    main()
