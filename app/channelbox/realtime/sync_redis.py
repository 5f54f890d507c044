"""Redis for code without an event loop: sign-in, the checks, the CLI. Short timeouts, and each command runs once."""

import functools
from typing import Any

import redis
from channels_redis.utils import _consistent_hash
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

TIMEOUT_SECONDS = 1.0


@functools.cache
def clients() -> list[redis.Redis]:
    """Return a client for each configured Redis host, in the order of the settings. It connects on first use."""
    return [_client(dict(host)) for host in settings.CHANNELBOX_REDIS_HOSTS]


def client(name: str) -> redis.Redis:
    """Return the client of the host that holds a name, as `RedisHosts.client` does for event loops."""
    index: int = _consistent_hash(name, len(clients()))
    return clients()[index]


def _client(host: dict[str, Any]) -> redis.Redis:
    quick: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if "sentinels" not in host:
        return redis.Redis.from_url(host["address"], **quick)
    password = {"password": host["password"]} if "password" in host else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        host["sentinels"], sentinel_kwargs={**host["sentinel_kwargs"], **quick}
    )
    master: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        host["master_name"], **password, **quick
    )
    return master
