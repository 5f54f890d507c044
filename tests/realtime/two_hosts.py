"""Two Redis hosts, and rooms on each."""

from tests.support.servers import RedisServer

from channelbox.realtime.bus import Bus
from channelbox.realtime.redis_hosts import Host


def hosts_of(servers: list[RedisServer], seconds: float) -> list[Host]:
    """The hosts as a bus takes them; connects and reads give up after so long."""
    return [{"address": server.url, "socket_timeout": seconds, "socket_connect_timeout": seconds} for server in servers]


def one_of_each(bus: Bus) -> list[str]:
    """For each of two hosts the name of a room that is there."""
    rooms = {bus.host(name): name for name in (f"room-{n}" for n in range(20))}
    return [rooms[0], rooms[1]]
