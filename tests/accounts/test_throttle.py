"""Limits of sign-in attempts."""

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
def private_redis(settings: Settings, new_redis: Callable[..., RedisServer]) -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url}]
    sync_redis.clients.cache_clear()
    yield server
    sync_redis.clients.cache_clear()


@pytest.fixture(params=["with Redis", "without Redis"])
def with_and_without_redis(request: pytest.FixtureRequest) -> None:
    """Run a test once with Redis and once without it: the limits are the same."""
    if request.param == "without Redis":
        request.getfixturevalue("private_redis").stop()


@pytest.mark.usefixtures("with_and_without_redis")
class TestRules:
    def test_attempts_at_a_name_from_one_address_are_limited(self) -> None:
        assert [take(Attempt.of("192.0.2.1", "alice")) for _ in range(3)] == [0, 0, 0]
        assert 0 < take(Attempt.of("192.0.2.1", "alice")) <= 60
        assert take(Attempt.of("192.0.2.1", "bob")) == 0

    def test_one_address_cannot_lock_out_a_name_at_another(self) -> None:
        for _ in range(100):
            take(Attempt.of("192.0.2.1", "alice"))
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_attempts_at_a_name_from_all_addresses_are_limited(self) -> None:
        assert [take(Attempt.of(f"192.0.2.{n}", "alice")) for n in range(7)] == [0] * 7
        assert 0 < take(Attempt.of("192.0.2.9", "alice")) <= 60
        assert take(Attempt.of("192.0.2.9", "bob")) == 0

    def test_a_known_browser_is_not_limited_by_the_attempts_of_others(self) -> None:
        for n in range(40):
            take(Attempt.of(f"192.0.2.{n % 10}", f"name{n % 5}"))
            take(Attempt.of(f"192.0.2.{n % 10}", "alice"))
        assert [take(Attempt.of("192.0.2.1", "alice", "browser")) for _ in range(3)] == [0, 0, 0]
        assert 0 < take(Attempt.of("192.0.2.1", "alice", "browser")) <= 60, "its own attempts are counted"

    def test_attempts_in_a_known_browser_count_only_for_itself(self) -> None:
        for _ in range(20):
            take(Attempt.of("192.0.2.1", "alice", "browser"))
        assert take(Attempt.of("192.0.2.1", "alice")) == 0

    def test_attempts_from_one_address_are_limited_over_all_names(self) -> None:
        assert [take(Attempt.of("192.0.2.1", f"name{n}")) for n in range(5)] == [0] * 5
        assert 0 < take(Attempt.of("192.0.2.1", "alice")) <= 60
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_a_locked_out_address_cannot_lock_out_a_name(self) -> None:
        for n in range(5):
            take(Attempt.of("192.0.2.1", f"name{n}"))
        for _ in range(10):
            assert take(Attempt.of("192.0.2.1", "alice")) > 0
        assert take(Attempt.of("192.0.2.2", "alice")) == 0

    def test_attempts_at_a_locked_out_name_do_not_count_for_the_address(self) -> None:
        for n in range(7):
            take(Attempt.of(f"198.51.100.{n}", "alice"))
        for _ in range(10):
            assert take(Attempt.of("192.0.2.1", "alice")) > 0
        assert take(Attempt.of("192.0.2.1", "bob")) == 0

    def test_successful_attempts_are_refunded(self) -> None:
        for n in range(20):
            attempt = Attempt.of("192.0.2.1", f"name{n % 2}")
            assert take(attempt) == 0
            refund(attempt)

    def test_a_refund_keeps_the_count_of_other_attempts_at_the_name(self) -> None:
        for n in range(6):
            take(Attempt.of(f"198.51.100.{n}", "alice"))
        right = Attempt.of("192.0.2.1", "alice")
        assert take(right) == 0
        refund(right)
        assert take(Attempt.of("192.0.2.2", "alice")) == 0
        assert take(Attempt.of("192.0.2.3", "alice")) > 0

    def test_a_refund_keeps_the_count_of_other_attempts_at_the_address(self) -> None:
        for n in range(4):
            take(Attempt.of("192.0.2.1", f"name{n}"))
        right = Attempt.of("192.0.2.1", "alice")
        take(right)
        refund(right)
        assert take(Attempt.of("192.0.2.1", "bob")) == 0
        assert take(Attempt.of("192.0.2.1", "bob")) > 0

    def test_concurrent_attempts_are_all_counted(self) -> None:
        with ThreadPoolExecutor(20) as pool:
            waits = list(pool.map(lambda n: take(Attempt.of(f"192.0.2.{n}", "alice")), range(40)))
        assert waits.count(0) == 7

    def test_further_attempts_do_not_prolong_the_window(self, settings: Settings) -> None:
        settings.CHANNELBOX_SIGN_IN_WINDOW = 0.3
        for n in range(7):
            take(Attempt.of(f"192.0.2.{n}", "alice"))
        end = time.monotonic() + 5
        while take(Attempt.of("192.0.2.8", "alice")):
            assert time.monotonic() < end


def test_a_frozen_redis_delays_attempts_only_briefly(private_redis: RedisServer) -> None:
    private_redis.freeze()
    start = time.monotonic()
    waits = [take(Attempt.of("192.0.2.1", "alice")) for _ in range(4)]
    private_redis.thaw()
    assert waits[:3] == [0, 0, 0]
    assert waits[3] > 0
    assert time.monotonic() - start < 4 * (sync_redis.TIMEOUT_SECONDS + 1)


def test_local_counters_are_bounded_and_still_limit_attempts(
    settings: Settings, private_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_SIGN_IN_ADDRESS = 1000
    monkeypatch.setattr(throttle.LocalCounters, "MAX_COUNTERS", 50)
    private_redis.stop()
    waits = [take(Attempt.of("192.0.2.1", f"name{n}")) for n in range(100)]
    assert waits[0] == 0
    assert waits[-1] > 0
    assert len(throttle._local.counts) <= 53


def test_counters_in_redis_expire(redis_server: RedisServer) -> None:
    take(Attempt.of("192.0.2.1", "alice"))
    with redis_server.client() as client:
        names = client.keys("*attempts*")
        assert len(names) == 3
        assert all(0 < client.pttl(name) <= 60_000 for name in names)


def test_redis_keys_contain_neither_names_nor_addresses(redis_server: RedisServer) -> None:
    take(Attempt.of("192.0.2.1", "a-password-typed-into-the-wrong-field"))
    with redis_server.client() as client:
        assert not any(b"password" in name or b"192.0.2" in name for name in client.keys("*"))


def test_names_that_normalize_to_the_same_text_share_a_counter() -> None:
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
def test_addresses_are_grouped_by_network(address: str, counted_as: str) -> None:
    assert network(address) == counted_as
