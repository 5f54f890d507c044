"""The role reports a change when the command says that it applied migrations."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_role_looks_for_what_the_command_prints() -> None:
    task = (ROOT / "ansible/roles/app/tasks/migrate.yml").read_text()
    found = re.search(r"changed_when: \"'(.+)' in ", task)
    assert found
    assert found[1] in (ROOT / "app/channelbox/cli/migrate.py").read_text()
