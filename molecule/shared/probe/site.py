"""Runs of site.yml as an administrator starts them, with their output."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ANSIBLE = Path(__file__).resolve().parents[3] / "ansible"


@dataclass(frozen=True)
class Run:
    """A finished run of site.yml."""

    code: int
    output: str

    @property
    def words(self) -> str:
        """The output with all white space replaced by single spaces, so that wrapped sentences are found."""
        return re.sub(r"\s+", " ", self.output)

    @property
    def changed(self) -> dict[str, int]:
        """The number of tasks that changed something, by node."""
        return {node: int(count) for node, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.output, re.M)}


def _started(inventory: Path | str, *arguments: str, **variables: Any) -> subprocess.Popen[str]:
    playbook = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert playbook, "ansible-playbook is missing; `make venv` brings it"
    command = [playbook, "--inventory", str(inventory), *arguments, "--extra-vars", json.dumps(variables), "site.yml"]
    return subprocess.Popen(
        command,
        cwd=ANSIBLE,
        env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run_until_killed(task: str, inventory: Path | str, *arguments: str, **variables: Any) -> str:
    """Run site.yml, kill it and its child processes when this task begins, and return its output until then."""
    with _started(inventory, *arguments, **variables) as run:
        assert run.stdout is not None
        output = ""
        for line in run.stdout:
            output += line
            if line.startswith(f"TASK [{task}]"):
                os.killpg(run.pid, signal.SIGKILL)
                return output
    raise AssertionError(f"there was no task {task}:\n{output}")


def site(inventory: Path | str, *arguments: str, **variables: Any) -> Run:
    """Run site.yml with an inventory; variables are passed as with -e."""
    with _started(inventory, *arguments, **variables) as run:
        output, _ = run.communicate()
    return Run(run.returncode, output)
