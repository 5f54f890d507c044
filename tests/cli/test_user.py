"""`channelbox user`: users, managed from the command line."""

from .conftest import Run
from .test_first_password import account_state, password_of


def test_a_user_is_added_with_a_generated_password(migrated: Run) -> None:
    answer = migrated("user", "add", "alice")
    assert answer.returncode == 0
    assert account_state(migrated, "alice", password_of(answer.stdout)) == "True False False True"
    assert "alice\tuser\tnever signed in" in migrated("user", "list").stdout


def test_a_password_from_standard_input_is_printed_nowhere(migrated: Run) -> None:
    answer = migrated("user", "add", "alice", "--admin", "--password-stdin", input="correct horse battery\n")
    assert answer.returncode == 0
    assert "correct horse" not in answer.stdout + answer.stderr
    assert account_state(migrated, "alice", "correct horse battery") == "True True True True"


def test_a_weak_password_is_refused_with_the_rule(migrated: Run) -> None:
    answer = migrated("user", "add", "alice", "--password-stdin", input="alice\n")
    assert answer.returncode == 1
    assert "at least 10 characters" in answer.stderr
    assert "alice" not in migrated("user", "list").stdout


def test_duplicate_and_invalid_names_are_refused(migrated: Run) -> None:
    migrated("user", "add", "alice")
    assert "already exists" in migrated("user", "add", "alice").stderr
    answer = migrated("user", "add", "a b")
    assert answer.returncode == 1
    assert "valid username" in answer.stderr


def test_a_new_password_replaces_the_old(migrated: Run) -> None:
    old = password_of(migrated("user", "add", "alice").stdout)
    new = password_of(migrated("user", "password", "alice").stdout)
    assert account_state(migrated, "alice", new).startswith("True")
    assert account_state(migrated, "alice", old).startswith("False")


def test_a_user_can_be_deactivated_and_activated(migrated: Run) -> None:
    migrated("user", "add", "alice")
    assert migrated("user", "deactivate", "alice").returncode == 0
    assert "alice\tinactive" in migrated("user", "list").stdout
    assert migrated("user", "activate", "alice").returncode == 0
    assert "alice\tuser" in migrated("user", "list").stdout


def test_the_list_shows_roles(migrated: Run) -> None:
    migrated("first-password")
    for name in ("alice", "bob"):
        migrated("user", "add", name)
    migrated(
        "manage",
        "shell",
        "-c",
        "from channelbox.accounts.models import User; User.objects.filter(username='bob').update(is_staff=True)",
    )
    roles = [line.split("\t")[:2] for line in migrated("user", "list").stdout.splitlines()]
    assert roles == [["admin", "administrator"], ["alice", "user"], ["bob", "staff"]]


def test_the_last_administrator_cannot_be_deactivated(migrated: Run) -> None:
    migrated("first-password")
    answer = migrated("user", "deactivate", "admin")
    assert answer.returncode == 1
    assert "only administrator" in answer.stderr


def test_an_unknown_user_is_an_error(migrated: Run) -> None:
    for command in ("password", "deactivate", "activate"):
        answer = migrated("user", command, "ghost")
        assert answer.returncode == 1
        assert "There is no user named 'ghost'." in answer.stderr
