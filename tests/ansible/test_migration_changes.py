"""The role reports a change if the command's output says that migrations were applied."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_role_matches_a_message_of_the_migrate_command() -> None:
    task = (ROOT / "ansible/roles/app/tasks/migrate.yml").read_text()
    found = re.search(r"changed_when: \"'(.+)' in ", task)
    assert found
    assert found[1] in (ROOT / "app/channelbox/cli/migrate.py").read_text()
