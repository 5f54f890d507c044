"""The Redis hosts: a pool and a client for each, and which of them holds a name."""

import asyncio
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channels_redis.utils import _consistent_hash, create_pool, decode_hosts
from django.conf import settings
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Host = Mapping[str, Any] | tuple[str, int] | str


@functools.cache
def _cancellable(kind: type[Any]) -> type[Any]:
    """A connection class whose commands can be cancelled, and that makes no task for each command.

    redis-py writes within asyncio.wait_for. Python 3.11's may swallow a cancellation (bpo-37658): whoever cancels a
    task and then awaits it would wait for ever.
    """

    class Cancellable(kind):
        async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
            if not self.is_connected:
                await self.connect_check_health(check_health=False)
            if check_health:
                await self.check_health()
            if isinstance(command, str):
                command = command.encode()
            try:
                self._writer.writelines([command] if isinstance(command, bytes) else command)
                async with asyncio.timeout(self.socket_timeout):
                    await self._writer.drain()
            except TimeoutError:
                await self.disconnect(nowait=True)
                raise RedisTimeoutError("Timeout writing to socket") from None
            except OSError as error:
                await self.disconnect(nowait=True)
                raise RedisConnectionError(f"While writing to socket: {error}") from error
            except BaseException:
                await self.disconnect(nowait=True)
                raise

    return Cancellable


def make_pool(host: Mapping[str, Any]) -> ConnectionPool:
    """A pool whose commands run once or raise: whether a lost PUBLISH or RPUSH was done is the caller's question.

    Reads and connects end after `socket_timeout` and `socket_connect_timeout` seconds of the host's entry.
    """
    once = Retry(NoBackoff(), 0)
    options: dict[str, Any] = {
        # redis-py's own 5 s for a read and 100 connections are too little for what waits in Redis, and for a crowd.
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "max_connections": 1000,
        # RESP3 would ask each server for the maintenance notices of a cloud service.
        "protocol": 2,
        "retry": once,
        "driver_info": None,
        "client_name": re.sub("[^!-~]", "_", f"channelbox:{settings.CHANNELBOX_NODE}:{settings.CHANNELBOX_INSTANCE}"),
        **host,
    }
    if "sentinels" in options:
        # A dead Sentinel is asked once, then the next one: three tries with pauses would outlast the failover.
        options["sentinel_kwargs"] = {"retry": once, **(options.get("sentinel_kwargs") or {})}
    pool = create_pool(options)
    managers = [pool.sentinel_manager] if isinstance(pool, SentinelConnectionPool) else []
    for each in (pool, *(sentinel.connection_pool for manager in managers for sentinel in manager.sentinels)):
        each.connection_class = _cancellable(each.connection_class)
    return pool


class RedisHosts:
    """Clients of all hosts, for one event loop. Names are spread over the hosts as channels_redis spreads them."""

    def __init__(self, hosts: Sequence[Host] | None = None) -> None:
        """`hosts` as in channels_redis' setting of that name; None means settings.CHANNELBOX_REDIS_HOSTS."""
        self.pools = [make_pool(h) for h in decode_hosts(settings.CHANNELBOX_REDIS_HOSTS if hosts is None else hosts)]
        self.clients = [Redis(connection_pool=pool) for pool in self.pools]

    def index(self, name: str) -> int:
        """Which host holds a name."""
        return _consistent_hash(name, len(self.pools))

    def client(self, name: str) -> Redis:
        """The client of the host that holds a name."""
        return self.clients[self.index(name)]

    async def aclose(self) -> None:
        """Closes every connection; the clients must not be used afterwards."""
        for pool in self.pools:
            await pool.aclose()
            if isinstance(pool, SentinelConnectionPool):
                await pool.sentinel_manager.aclose()
