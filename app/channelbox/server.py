"""uvicorn on systemd's socket: ready when it listens, and stopped without dropping anybody."""

import asyncio
import functools
import gc
import logging
import os
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from django.conf import settings

from channelbox.realtime.counters import counters
from channelbox.realtime.protocol_switch import ProtocolSwitch
from channelbox.sd_notify import notify, watchdog_seconds

logger = logging.getLogger(__name__)

BACKLOG = 4096  # uvicorn sets it anew on the socket that it is given; a full Unix socket refuses at once
SETTLE_SECONDS = 0.1  # for requests of connections that were accepted just now
GRACE_SECONDS = 5  # after the drain: for answers under way
GARBAGE = 20_000  # new objects before the youngest are looked through; Python's default is 700
FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)


class Server(uvicorn.Server):
    """Tells systemd how it is, and stops in the order in which nobody is dropped."""

    _stop_starting: Callable[[], object] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen. A signal ends the start as well, which may be waiting for Redis."""
        starting = asyncio.ensure_future(super().startup(sockets))
        self._stop_starting = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, starting.cancel)
        try:
            await starting
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
            notify("STOPPING=1")
            logger.info("Stopped before startup was complete.")
            self._captured_signals.clear()
            return
        finally:
            self._stop_starting = None
        _spare_garbage_collection()
        where = ", ".join(describe(each) for each in sockets or [])
        logger.info("Listening on %s.", where)
        notify(f"READY=1\nSTATUS=Listening on {where}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal, as uvicorn does, and end a start that is under way."""
        super().handle_exit(sig, frame)
        if self._stop_starting is not None:
            self._stop_starting()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, waits for what it has just accepted, then closes what is open (1012 for WebSockets).

        Without the pause, a connection that was accepted but has not sent its request yet is dropped.
        """
        notify("STOPPING=1")
        counters.draining = True
        logger.info("Stopping: %d connections.", len(self.server_state.connections))
        for server in self.servers:
            server.close()
        await asyncio.sleep(SETTLE_SECONDS)
        await super().shutdown(sockets)
        # uvicorn raises the signals again after a clean stop: the process would end as if it had been killed.
        self._captured_signals.clear()
        logger.info("Stopped.")


def serve(listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT. Exits with status 3 when the application's startup fails."""
    # A neighbour's process that is started without NonBlocking= clears this flag of the shared socket.
    listener.setblocking(False)
    Server(configuration(listener)).run(sockets=[listener])


def configuration(listener: socket.socket) -> uvicorn.Config:
    """What uvicorn is told for this socket."""
    return uvicorn.Config(
        "channelbox.asgi:application",
        interface="asgi3",
        loop="uvloop",
        http=ProtocolSwitch,
        ws="channelbox.realtime.protocol:FrameProtocol",
        ws_max_size=settings.CHANNELBOX_FRAME_MAX,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        # "auto" would take a failure at the start for a lack of support, and serve.
        lifespan="on",
        backlog=BACKLOG,
        # Whoever can connect to the Unix socket is the proxy, and nginx overwrites what clients claim.
        proxy_headers=listener.family == socket.AF_UNIX,
        forwarded_allow_ips="*",
        server_header=False,
        access_log=False,
        log_config=None,
        # A line for each WebSocket otherwise.
        log_level=logging.WARNING,
        timeout_graceful_shutdown=round(settings.CHANNELBOX_DRAIN_SECONDS) + GRACE_SECONDS,
        timeout_notify=watchdog_seconds() or 0,  # type: ignore[arg-type]  # compared only
        callback_notify=_watchdog if watchdog_seconds() else None,
    )


def _spare_garbage_collection() -> None:
    """What was made at the start stays, so it is not looked through again; the rest less often than Python's default.

    A connection is some hundred objects that live long. With the default thresholds a crowd that comes has the
    collector walk over all who are there, again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)


async def _watchdog() -> None:
    notify("WATCHDOG=1")


def systemd_socket() -> socket.socket | None:
    """The listening socket that systemd passed to this process, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not int(os.environ.get("LISTEN_FDS", "0")):
        return None
    return socket.socket(fileno=FIRST_DESCRIPTOR)


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that listens. Raises OSError when the address is taken or not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def describe(listener: socket.socket) -> str:
    """A listening socket's address for people."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(name)
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
