"""`channelbox check` on a real installation."""

from collections.abc import Callable

from tests.support.servers import RedisServer

from .conftest import Run


def test_a_correct_installation_passes_without_warnings(migrated: Run, redis_server: RedisServer) -> None:
    answer = migrated("check", CHANNELBOX_REDIS_URL=redis_server.url)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "No errors, no warnings.\n"
    assert answer.stderr == ""


def test_errors_give_status_1_and_their_remedies(run: Run) -> None:
    answer = run("check", CHANNELBOX_DEBUG="1", CHANNELBOX_ROM_LIMIT="5", CHANNELBOX_REDIS_URL="unix:///nowhere/sock")
    assert answer.returncode == 1
    for id in ("E001", "E013", "E014", "E016"):
        assert f"channelbox.{id}: " in answer.stderr
    for remedy in ("Remove CHANNELBOX_DEBUG", "Did you mean CHANNELBOX_ROOM_LIMIT?", "Run: channelbox migrate"):
        assert remedy in answer.stderr


def test_an_unreachable_database_is_an_error(run: Run, redis_server: RedisServer) -> None:
    answer = run(
        "check", CHANNELBOX_REDIS_URL=redis_server.url, CHANNELBOX_DATABASE_URL="sqlite:////nowhere/db.sqlite3"
    )
    assert answer.returncode == 1
    assert "channelbox.E015: The database does not respond" in answer.stderr


def test_warnings_do_not_change_the_status(migrated: Run, new_redis: Callable[..., RedisServer]) -> None:
    answer = migrated("check", CHANNELBOX_REDIS_URL=new_redis("--maxmemory-policy", "volatile-lru").url)
    assert answer.returncode == 0
    assert "channelbox.W005" in answer.stderr
    assert answer.stdout == "No errors. Warnings: 1.\n"
