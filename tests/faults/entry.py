"""The `channelbox` command in a process that can be killed at a chosen place, or is broken on purpose.

The tests control it with two variables, whose names do not begin with CHANNELBOX_ because those are settings:
FAULTS_TRAPS: a folder. A worker that finds a file named `before-commit` or `after-commit` there at the next COMMIT
removes it and kills itself. FAULTS_BROKEN: a name in `broken.BREAKAGES`.
"""

import os
import signal
import sys
from pathlib import Path

BEFORE_COMMIT, AFTER_COMMIT = "before-commit", "after-commit"


def trap(place: str) -> None:
    """Kill this process if the file for this place exists. Only the process that removes the file is killed."""
    try:
        (Path(os.environ["FAULTS_TRAPS"]) / place).unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def set_traps() -> None:
    """Put a trap before and after each COMMIT of this process. The PUBLISH comes after both."""
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
    if name := os.environ.get("FAULTS_BROKEN"):
        from tests.faults.broken import break_it

        os.environ["DJANGO_SETTINGS_MODULE"] = "channelbox.settings"
        django.setup()
        break_it(name)
    main()
