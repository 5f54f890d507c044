"""uvicorn on systemd's socket: ready when it listens, and stopped without dropping any client."""

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

BACKLOG = 4096  # uvicorn applies it to the socket that it is given; a Unix socket with a full backlog refuses at once
SETTLE_SECONDS = 0.1  # for the requests of connections that have just been accepted
GRACE_SECONDS = 5  # after the drain, for responses in progress
GC_THRESHOLD = 20_000  # new objects before the youngest generation is collected; Python's default is 700
FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)


class Server(uvicorn.Server):
    """uvicorn server that reports its state to systemd and shuts down without dropping any client."""

    _stop_starting: Callable[[], object] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen. A signal also cancels the start, which may be waiting for Redis."""
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
        _reduce_garbage_collection()
        addresses = ", ".join(describe(each) for each in sockets or [])
        logger.info("Listening on %s.", addresses)
        notify(f"READY=1\nSTATUS=Listening on {addresses}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Record the signal, as uvicorn does, and cancel a start in progress."""
        super().handle_exit(sig, frame)
        if self._stop_starting is not None:
            self._stop_starting()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, pause for connections accepted just now, then close all (WebSockets with 1012).

        Without the pause, a connection that was accepted but has not sent its request yet would be dropped.
        """
        notify("STOPPING=1")
        counters.draining = True
        logger.info("Stopping: %d connections.", len(self.server_state.connections))
        for server in self.servers:
            server.close()
        await asyncio.sleep(SETTLE_SECONDS)
        await super().shutdown(sockets)
        # uvicorn raises captured signals again after a clean stop: the process would end as if it had been killed.
        self._captured_signals.clear()
        logger.info("Stopped.")


def serve(listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT. Exits with status 3 when the application's startup fails."""
    # Processes share the socket and this flag: one that systemd starts without NonBlocking= clears it for all.
    listener.setblocking(False)
    Server(configuration(listener)).run(sockets=[listener])


def configuration(listener: socket.socket) -> uvicorn.Config:
    """Return uvicorn's configuration for a listening socket."""
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
        # "auto" would take a failed startup for a lack of lifespan support, and serve.
        lifespan="on",
        backlog=BACKLOG,
        # Whatever can connect to the Unix socket is the proxy, and nginx overwrites these headers of clients.
        proxy_headers=listener.family == socket.AF_UNIX,
        forwarded_allow_ips="*",
        server_header=False,
        access_log=False,
        log_config=None,
        # At INFO, uvicorn logs each step of its start and its end, which systemd logs already.
        log_level=logging.WARNING,
        timeout_graceful_shutdown=round(settings.CHANNELBOX_DRAIN_SECONDS) + GRACE_SECONDS,
        timeout_notify=watchdog_seconds() or 0,  # type: ignore[arg-type]  # only compared
        callback_notify=_watchdog if watchdog_seconds() else None,
    )


def _reduce_garbage_collection() -> None:
    """Exempt objects made at the start from garbage collection, and collect the others less often than by default.

    A connection is some hundred long-lived objects. With Python's default thresholds, many new connections make the
    collector traverse those of all existing connections again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


async def _watchdog() -> None:
    notify("WATCHDOG=1")


def systemd_socket() -> socket.socket | None:
    """Return the listening socket that systemd passed to this process; None if it passed none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not int(os.environ.get("LISTEN_FDS", "0")):
        return None
    return socket.socket(fileno=FIRST_DESCRIPTOR)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises OSError when the address is in use or is not this machine's."""
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
    """Return the address of a listening socket, for people to read."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return str(name)
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
