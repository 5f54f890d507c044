"""The first administrator."""

import json

from .conftest import Run

CHECK = """
from channelbox.accounts.models import User
user = User.objects.get(username={name!r})
print(user.check_password({password!r}), user.is_superuser, user.is_staff, user.is_active)
"""


def password_of(output: str) -> str:
    return output.split("Password: ")[1].strip()


def look(run: Run, name: str, password: str) -> str:
    return run("manage", "shell", "-v", "0", "-c", CHECK.format(name=name, password=password)).stdout.strip()


def test_it_makes_an_administrator_and_tells_the_password_once(migrated: Run) -> None:
    first = migrated("first-password")
    assert first.returncode == 0
    assert first.stdout.startswith("Name:     admin\n")
    assert look(migrated, "admin", password_of(first.stdout)) == "True True True True"
    again = migrated("first-password")
    assert again.returncode == 1
    assert again.stdout == ""
    assert "There is an administrator already: admin." in again.stderr


def test_reset_gives_a_new_one(migrated: Run) -> None:
    first = password_of(migrated("first-password").stdout)
    second = password_of(migrated("first-password", "--reset").stdout)
    assert first != second
    assert look(migrated, "admin", second) == "True True True True"
    assert look(migrated, "admin", first).startswith("False")


def test_it_does_not_make_a_second_administrator_beside_another(migrated: Run) -> None:
    assert migrated("user", "add", "alice", "--admin").returncode == 0
    answer = migrated("first-password")
    assert answer.returncode == 1
    assert "alice" in answer.stderr


def test_programs_get_json(migrated: Run) -> None:
    answer = json.loads(migrated("first-password", "--json").stdout)
    assert look(migrated, answer["name"], answer["password"]) == "True True True True"
