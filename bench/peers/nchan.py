"""nchan, the pub/sub module for nginx, from Debian's package, with its memory store or with Redis."""

from pathlib import Path

from tests.support.servers import free_port
from tests.support.waiting import until

from bench.generator import HOST, Address, Crowd
from bench.peers.nginx import nginx

READY_SECONDS = 10.0
MODULE = "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;"
HTTP = """\
    nchan_shared_memory_size 256m;
{redis}
    server {{
        listen {host}:{port} backlog=4096;
        location ~ ^/room/([\\w-]+)$ {{
            nchan_pubsub websocket;
            nchan_channel_id $1;
            nchan_channel_group rooms;
            {use}
        }}
    }}
"""
REDIS = "    upstream redis {{ nchan_redis_server {url}; }}"


class Nchan:
    """nchan has neither users nor sessions, and stores nothing on disk."""

    def __init__(self, name: str, folder: Path, redis: str | None = None) -> None:
        self.name = name
        port = free_port()
        upstream = REDIS.format(url=redis) if redis else ""
        use = "nchan_redis_pass redis;" if redis else ""
        http = HTTP.format(host=HOST, port=port, redis=upstream, use=use)
        self._server = nginx(folder, port, http, MODULE)

    async def start(self) -> None:
        self._server.start()
        # It listens before it is connected to its Redis, and answers 503 until then.
        await until(self._ready, READY_SECONDS)

    async def _ready(self) -> bool:
        crowd = Crowd(self.address)
        try:
            await crowd.connect({"ready": 1})
            return True
        except ExceptionGroup:
            return False
        finally:
            await crowd.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        self._server.stop()

    @property
    def address(self) -> Address:
        return Address(self._server.port, "/room/{room}")

    @property
    def processes(self) -> list[int]:
        return [self._server.pid]
