"""`channelbox first-password` creates the first administrator."""

import json

from .conftest import Run

CHECK = """
from channelbox.accounts.models import User
user = User.objects.get(username={name!r})
print(user.check_password({password!r}), user.is_superuser, user.is_staff, user.is_active)
"""


def password_of(output: str) -> str:
    return output.split("Password: ")[1].strip()


def account_state(run: Run, name: str, password: str) -> str:
    return run("manage", "shell", "-v", "0", "-c", CHECK.format(name=name, password=password)).stdout.strip()


def test_first_password_creates_an_administrator_and_prints_it_once(migrated: Run) -> None:
    first = migrated("first-password")
    assert first.returncode == 0
    assert first.stdout.startswith("Name:     admin\n")
    assert account_state(migrated, "admin", password_of(first.stdout)) == "True True True True"
    again = migrated("first-password")
    assert again.returncode == 1
    assert again.stdout == ""
    assert "There is an administrator already: admin." in again.stderr


def test_reset_sets_a_new_password(migrated: Run) -> None:
    first = password_of(migrated("first-password").stdout)
    second = password_of(migrated("first-password", "--reset").stdout)
    assert first != second
    assert account_state(migrated, "admin", second) == "True True True True"
    assert account_state(migrated, "admin", first).startswith("False")


def test_first_password_refuses_if_another_administrator_exists(migrated: Run) -> None:
    assert migrated("user", "add", "alice", "--admin").returncode == 0
    answer = migrated("first-password")
    assert answer.returncode == 1
    assert "alice" in answer.stderr


def test_output_can_be_json(migrated: Run) -> None:
    answer = json.loads(migrated("first-password", "--json").stdout)
    assert account_state(migrated, answer["name"], answer["password"]) == "True True True True"
