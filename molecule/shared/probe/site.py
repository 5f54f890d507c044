"""Running site.yml as an administrator does, and what it said."""

import json
import os
import re
import shutil
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
        """The output with white space made even, so that a sentence is found however it was wrapped."""
        return re.sub(r"\s+", " ", self.output)

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by node."""
        return {node: int(count) for node, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.output, re.M)}


def site(inventory: Path | str, *arguments: str, **variables: Any) -> Run:
    """Run site.yml over an inventory; variables go to it as -e does."""
    playbook = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert playbook, "ansible-playbook is missing; `make venv` brings it"
    command = [playbook, "--inventory", str(inventory), *arguments, "--extra-vars", json.dumps(variables), "site.yml"]
    done = subprocess.run(
        command,
        cwd=ANSIBLE,
        env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        stdin=subprocess.DEVNULL,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Run(done.returncode, done.stdout)
