"""How often somebody may try to sign in."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_django import Settings
from tests.support.servers import RedisServer

from channelbox.accounts import throttle
from channelbox.accounts.throttle import Attempt, refund, take
from channelbox.realtime import sync_redis
from channelbox.realtime.client_address import network


@pytest.fixture(autouse=True)
def limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 5
    settings.CHANNELBOX_SIGN_IN_NAME = 3
    settings.CHANNELBOX_SIGN_IN_NAME_ANYWHERE = 7
    settings.CHANNELBOX_SIGN_IN_WINDOW = 60
    monkeypatch.setattr(throttle, "_local", throttle.LocalCounters())


@pytest.fixture
def own_redis(settings: Settings, new_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url}]
    sync_redis.clients.cache_clear()
    yield server
    sync_redis.clients.cache_clear()


@pytest.fixture(params=["redis answers", "redis is gone"])
def anyhow(request: pytest.FixtureRequest) -> None:
    """The same rules with and without Redis."""
    if request.param == "redis is gone":
        request.getfixturevalue("own_redis").stop()


@pytest.mark.usefixtures("anyhow")
class TestRules:
    def test_a_name_has_so_many_attempts_from_one_address(self) -> None:
        assert [take(Attempt.of("192.0.2.1", "alice")) for _ in range(3)] == [0, 0, 0]
        assert 0 < take(Attempt.of("192.0.2.1", "alice")) <= 60
        assert take(Attempt.of("192.0.2.1", "bob")) == 0

    def test_a_script_at_one_address_does_not_shut_out_a_name_elsewhere(self) -> None:
        for _ in range(100):
            take(Attempt.of("192.0.2.1", "alice"))
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_a_name_has_so_many_attempts_from_all_addresses_together(self) -> None:
        assert [take(Attempt.of(f"192.0.2.{n}", "alice")) for n in range(7)] == [0] * 7
        assert 0 < take(Attempt.of("192.0.2.9", "alice")) <= 60
        assert take(Attempt.of("192.0.2.9", "bob")) == 0

    def test_a_browser_that_knows_the_name_is_let_try_whatever_others_guess(self) -> None:
        for n in range(40):
            take(Attempt.of(f"192.0.2.{n % 10}", f"name{n % 5}"))
            take(Attempt.of(f"192.0.2.{n % 10}", "alice"))
        assert [take(Attempt.of("192.0.2.1", "alice", "browser")) for _ in range(3)] == [0, 0, 0]
        assert 0 < take(Attempt.of("192.0.2.1", "alice", "browser")) <= 60, "its own guesses are counted"

    def test_what_a_known_browser_guesses_shuts_out_nobody_else(self) -> None:
        for _ in range(20):
            take(Attempt.of("192.0.2.1", "alice", "browser"))
        assert take(Attempt.of("192.0.2.1", "alice")) == 0

    def test_an_address_has_so_many_attempts_with_any_name(self) -> None:
        assert [take(Attempt.of("192.0.2.1", f"name{n}")) for n in range(5)] == [0] * 5
        assert 0 < take(Attempt.of("192.0.2.1", "alice")) <= 60
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_an_address_that_is_shut_out_cannot_shut_out_a_name(self) -> None:
        for n in range(5):
            take(Attempt.of("192.0.2.1", f"name{n}"))
        for _ in range(10):
            assert take(Attempt.of("192.0.2.1", "alice")) > 0
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_a_name_that_is_shut_out_does_not_shut_out_the_address(self) -> None:
        for n in range(7):
            take(Attempt.of(f"198.51.100.{n}", "alice"))
        for _ in range(10):
            assert take(Attempt.of("192.0.2.1", "alice")) > 0
        assert take(Attempt.of("192.0.2.1", "bob")) == 0

    def test_right_attempts_are_given_back(self) -> None:
        for n in range(20):
            attempt = Attempt.of("192.0.2.1", f"name{n % 2}")
            assert take(attempt) == 0
            refund(attempt)

    def test_a_right_attempt_does_not_give_back_what_others_guess_at_the_name(self) -> None:
        for n in range(6):
            take(Attempt.of(f"198.51.100.{n}", "alice"))
        right = Attempt.of("192.0.2.1", "alice")
        assert take(right) == 0
        refund(right)
        assert take(Attempt.of("192.0.2.2", "alice")) == 0
        assert take(Attempt.of("192.0.2.3", "alice")) > 0

    def test_a_right_attempt_does_not_give_back_what_others_behind_the_address_guessed(self) -> None:
        for n in range(4):
            take(Attempt.of("192.0.2.1", f"name{n}"))
        right = Attempt.of("192.0.2.1", "alice")
        take(right)
        refund(right)
        assert take(Attempt.of("192.0.2.1", "bob")) == 0
        assert take(Attempt.of("192.0.2.1", "bob")) > 0

    def test_attempts_at_once_are_all_counted(self) -> None:
        with ThreadPoolExecutor(20) as pool:
            waits = list(pool.map(lambda n: take(Attempt.of(f"192.0.2.{n}", "alice")), range(40)))
        assert waits.count(0) == 7

    def test_a_window_ends_though_somebody_goes_on_guessing(self, settings: Settings) -> None:
        settings.CHANNELBOX_SIGN_IN_WINDOW = 0.3
        for n in range(7):
            take(Attempt.of(f"192.0.2.{n}", "alice"))
        end = time.monotonic() + 5
        while take(Attempt.of("192.0.2.8", "alice")):
            assert time.monotonic() < end


def test_a_frozen_redis_delays_nobody_for_long(own_redis: RedisServer) -> None:
    own_redis.freeze()
    start = time.monotonic()
    waits = [take(Attempt.of("192.0.2.1", "alice")) for _ in range(4)]
    own_redis.thaw()
    assert waits[:3] == [0, 0, 0]
    assert waits[3] > 0
    assert time.monotonic() - start < 4 * (sync_redis.TIMEOUT_SECONDS + 1)


def test_without_redis_a_flood_of_names_neither_fills_memory_nor_goes_uncounted(
    settings: Settings, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 1000
    monkeypatch.setattr(throttle.LocalCounters, "MAX_COUNTERS", 50)
    own_redis.stop()
    waits = [take(Attempt.of("192.0.2.1", f"name{n}")) for n in range(100)]
    assert waits[0] == 0
    assert waits[-1] > 0
    assert len(throttle._local.counts) <= 53


def test_the_counters_expire(redis_server: RedisServer) -> None:
    take(Attempt.of("192.0.2.1", "alice"))
    with redis_server.client() as client:
        names = client.keys("*attempts*")
        assert len(names) == 3
        assert all(0 < client.pttl(name) <= 60_000 for name in names)


def test_redis_does_not_hear_who_tried(redis_server: RedisServer) -> None:
    take(Attempt.of("192.0.2.1", "a-password-typed-into-the-wrong-field"))
    with redis_server.client() as client:
        assert not any(b"password" in name or b"192.0.2" in name for name in client.keys("*"))


def test_names_that_look_alike_share_a_counter() -> None:
    assert Attempt.of("", "Alice") == Attempt.of("", "alice") == Attempt.of("", "\uff21\uff2c\uff29\uff23\uff25")


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_what_counts_as_one_address(address: str, counted_as: str) -> None:
    assert network(address) == counted_as
