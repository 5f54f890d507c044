"""Helpers for tests with two Redis hosts."""

from tests.support.servers import RedisServer

from channelbox.realtime.bus import Bus
from channelbox.realtime.redis_hosts import Host


def hosts_of(servers: list[RedisServer], seconds: float) -> list[Host]:
    """Return the hosts as the bus expects them. Connecting and reading time out after `seconds`."""
    return [{"address": server.url, "socket_timeout": seconds, "socket_connect_timeout": seconds} for server in servers]


def one_of_each(bus: Bus) -> list[str]:
    """Return two room names, one on each host."""
    rooms = {bus.host(name): name for name in (f"room-{n}" for n in range(20))}
    return [rooms[0], rooms[1]]
