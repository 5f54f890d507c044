"""The Redis hosts: a connection pool and a client for each, and which host holds a name."""

import asyncio
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from channels_redis.utils import _consistent_hash, create_pool, decode_hosts
from django.conf import settings
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

Host = Mapping[str, Any] | tuple[str, int] | str


@functools.cache
def _connection_class(kind: type[Any]) -> type[Any]:
    """Return a connection class whose commands can be cancelled, and whose errors leave no garbage.

    redis-py writes within asyncio.wait_for, which makes a task for each command. Python 3.11's may swallow a
    cancellation (bpo-37658): code that cancels a task and then awaits it would wait for ever.

    redis-py raises an error that Redis answered from a variable. The error's traceback refers to that variable, so all
    that the callers hold, such as messages and their connections, is freed by the garbage collector only.
    """

    class OwnConnection(kind):
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

        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except ResponseError as error:
                raise error.with_traceback(None)  # noqa: B904  # it is the same error

    return OwnConnection


class _Client(Redis):
    """A Redis client whose pipelines leave no garbage, for the reason given above."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Pipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            answers = list(await super().execute(raise_on_error))
        except ResponseError as error:
            raise error.with_traceback(None)  # noqa: B904  # it is the same error
        for answer in answers:
            if isinstance(answer, ResponseError):
                answer.__traceback__ = None
        return answers


def make_pool(host: Mapping[str, Any]) -> ConnectionPool:
    """Return a pool whose commands run once or raise.

    Nothing is retried: whether an unanswered PUBLISH or RPUSH was executed is for the caller to find out. Reads and
    connects end after the `socket_timeout` and `socket_connect_timeout` seconds of the host's entry.
    """
    once = Retry(NoBackoff(), 0)
    options: dict[str, Any] = {
        # redis-py's own 5 s for a read and 100 connections are too little for blocking commands and for a crowd.
        "socket_timeout": 15,
        "socket_connect_timeout": 5,
        "max_connections": 1000,
        # With RESP3, each server would be asked for the maintenance notifications of a cloud service.
        "protocol": 2,
        "retry": once,
        "driver_info": None,
        "client_name": re.sub("[^!-~]", "_", f"channelbox:{settings.CHANNELBOX_NODE}:{settings.CHANNELBOX_INSTANCE}"),
        **host,
    }
    if "sentinels" in options:
        # A dead Sentinel is asked once, then the next one: three attempts with pauses would outlast the failover.
        options["sentinel_kwargs"] = {"retry": once, **(options.get("sentinel_kwargs") or {})}
    pool: ConnectionPool = create_pool(options)
    managers = [pool.sentinel_manager] if isinstance(pool, SentinelConnectionPool) else []
    for each in (pool, *(sentinel.connection_pool for manager in managers for sentinel in manager.sentinels)):
        each.connection_class = _connection_class(each.connection_class)
    return pool


class RedisHosts:
    """Clients of all Redis hosts, for one event loop. Names are spread over the hosts as in channels_redis."""

    def __init__(self, hosts: Sequence[Host] | None = None) -> None:
        """`hosts`: as in channels_redis' setting of that name. None: settings.CHANNELBOX_REDIS_HOSTS."""
        self.pools = [make_pool(h) for h in decode_hosts(settings.CHANNELBOX_REDIS_HOSTS if hosts is None else hosts)]
        self.clients: list[Redis] = [_Client(connection_pool=pool) for pool in self.pools]

    def index(self, name: str) -> int:
        """Return the index of the host that holds a name."""
        index: int = _consistent_hash(name, len(self.pools))
        return index

    def client(self, name: str) -> Redis:
        """Return the client of the host that holds a name."""
        return self.clients[self.index(name)]

    async def aclose(self) -> None:
        """Close every connection. The clients must not be used afterwards."""
        for pool in self.pools:
            await pool.aclose()
            if isinstance(pool, SentinelConnectionPool):
                await pool.sentinel_manager.aclose()
