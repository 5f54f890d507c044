"""People, from the command line."""

from .conftest import Run
from .test_first_password import look, password_of


def test_somebody_is_added_with_a_made_up_password(migrated: Run) -> None:
    answer = migrated("user", "add", "alice")
    assert answer.returncode == 0
    assert look(migrated, "alice", password_of(answer.stdout)) == "True False False True"
    assert "alice\tuser\tnever signed in" in migrated("user", "list").stdout


def test_a_password_from_standard_input_is_printed_nowhere(migrated: Run) -> None:
    answer = migrated("user", "add", "alice", "--admin", "--password-stdin", input="correct horse battery\n")
    assert answer.returncode == 0
    assert "correct horse" not in answer.stdout + answer.stderr
    assert look(migrated, "alice", "correct horse battery") == "True True True True"


def test_a_weak_password_is_refused_with_the_rule(migrated: Run) -> None:
    answer = migrated("user", "add", "alice", "--password-stdin", input="alice\n")
    assert answer.returncode == 1
    assert "at least 10 characters" in answer.stderr
    assert "alice" not in migrated("user", "list").stdout


def test_a_name_is_taken_once_and_has_to_be_a_name(migrated: Run) -> None:
    migrated("user", "add", "alice")
    assert "already exists" in migrated("user", "add", "alice").stderr
    answer = migrated("user", "add", "a b")
    assert answer.returncode == 1
    assert "valid username" in answer.stderr


def test_a_new_password_replaces_the_old(migrated: Run) -> None:
    old = password_of(migrated("user", "add", "alice").stdout)
    new = password_of(migrated("user", "password", "alice").stdout)
    assert look(migrated, "alice", new).startswith("True")
    assert look(migrated, "alice", old).startswith("False")


def test_access_ends_and_comes_back(migrated: Run) -> None:
    migrated("user", "add", "alice")
    assert migrated("user", "deactivate", "alice").returncode == 0
    assert "alice\tinactive" in migrated("user", "list").stdout
    assert migrated("user", "activate", "alice").returncode == 0
    assert "alice\tuser" in migrated("user", "list").stdout


def test_the_last_administrator_stays(migrated: Run) -> None:
    migrated("first-password")
    answer = migrated("user", "deactivate", "admin")
    assert answer.returncode == 1
    assert "only administrator" in answer.stderr


def test_nobody_of_that_name_is_told(migrated: Run) -> None:
    for verb in ("password", "deactivate", "activate"):
        answer = migrated("user", verb, "ghost")
        assert answer.returncode == 1
        assert "There is no user named 'ghost'." in answer.stderr
