"""A web process is ready when it listens, and stops without dropping connections."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from tests.integration.local import installation, print_line
from websockets.asyncio.client import ClientConnection, connect

from channelbox import server
from channelbox.cli.errors import CliError
from channelbox.cli.local_installation import COMMAND
from channelbox.cli.supervisor import SupervisedProcess

SOCKETS = 2000


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder with a path that is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        yield Path(folder)


def listen(folder: Path) -> socket.socket:
    """Create a listening Unix socket as systemd does."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "web.sock"))
    listener.listen(4096)
    return listener


def systemd_process(listener: socket.socket, folder: Path, name: str = "web@1", **variables: str) -> SupervisedProcess:
    """Return `channelbox web` with the socket as file descriptor 3. It does not use the database."""
    hand_over = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{listener.fileno()}'
    environment = {
        **os.environ,
        "CHANNELBOX_INSTANCE": name,
        "CHANNELBOX_DRAIN_SECONDS": "1",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    command = ["bash", "-c", hand_over, "bash", *COMMAND, "web"]
    return SupervisedProcess(name, command, environment, print_line, folder, [listener.fileno()])


@asynccontextmanager
async def running(*children: SupervisedProcess) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(child.start() for child in children))
        yield
    finally:
        await asyncio.gather(*(child.stop() for child in children))


async def get(path: Path, pause: float = 0) -> bytes:
    """Send a request `pause` seconds after connecting. Return the response, empty if closed without an answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    await asyncio.sleep(pause)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_server_serves_the_systemd_socket_and_notifies_readiness(runtime: Path) -> None:
    with listen(runtime) as listener:
        # Readiness depends on its notification, not on a successful connection.
        async with running(systemd_process(listener, runtime)):
            answer = await get(runtime / "web.sock")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")
    assert b"\r\nserver:" not in answer.lower()


async def test_a_failed_start_exits_with_an_error_and_is_never_ready(runtime: Path) -> None:
    with listen(runtime) as listener:
        child = systemd_process(listener, runtime, CHANNELBOX_REDIS_URL="nonsense://")
        with pytest.raises(CliError, match="did not become ready"):
            await child.start()
        assert await child.stop() not in (0, None)


async def test_the_server_is_ready_without_redis(runtime: Path) -> None:
    """Pages need no Redis, and WebSockets get try_later."""
    with listen(runtime) as listener:
        child = systemd_process(listener, runtime, CHANNELBOX_REDIS_URL=f"unix://{runtime}/redis.sock")
        await child.start()
        assert await child.stop() == 0


async def test_a_waiting_start_can_be_stopped(runtime: Path) -> None:
    waiting = asyncio.Event()

    async def application(scope: object, receive: Callable[[], Awaitable[object]], send: object) -> None:
        await receive()
        waiting.set()
        await asyncio.Event().wait()

    with listen(runtime) as listener:
        starting = server.Server(uvicorn.Config(application, interface="asgi3", lifespan="on", log_config=None))
        serving = asyncio.create_task(starting.serve(sockets=[listener]))
        async with asyncio.timeout(30):
            await waiting.wait()
            starting.handle_exit(signal.SIGTERM, None)
            await serving


async def test_systemd_gets_ready_watchdog_and_stopping_notifications(runtime: Path) -> None:
    with listen(runtime) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.setblocking(False)
        notices.bind(str(runtime / "notices"))
        unit = systemd_process(listener, runtime, WATCHDOG_USEC="2000000")
        process = await asyncio.create_subprocess_exec(
            *unit.command,
            env={**unit.environment, "NOTIFY_SOCKET": str(runtime / "notices")},
            pass_fds=unit.descriptors,
        )
        received: list[str] = []
        async with asyncio.timeout(30):
            while received.count("WATCHDOG=1") < 3:
                received += (await asyncio.get_running_loop().sock_recv(notices, 4096)).decode().splitlines()
            process.terminate()
            while "STOPPING=1" not in received:
                received += (await asyncio.get_running_loop().sock_recv(notices, 4096)).decode().splitlines()
        assert await process.wait() == 0
    # A slow start asks for more time first.
    received = [each for each in received if each != "STATUS=Starting" and not each.startswith("EXTEND_TIMEOUT_USEC=")]
    assert received[:2] == ["READY=1", f"STATUS=Listening on {runtime}/web.sock"]
    assert received[-1] == "STOPPING=1"


async def test_restarts_of_processes_on_one_socket_fail_no_request(runtime: Path) -> None:
    answers: list[bytes] = []

    async def ask() -> None:
        while True:
            # A connection is accepted before its request has arrived: a hasty stop would drop it.
            answers.append(await get(runtime / "web.sock", pause=0.03))

    with listen(runtime) as listener:
        first, second = (systemd_process(listener, runtime, name) for name in ("web@1", "web@2"))
        async with running(first, second):
            asking = [asyncio.create_task(ask()) for _ in range(4)]
            for child in (first, second, first):
                count = len(answers)
                assert await child.stop() == 0
                await child.start()
                assert len(answers) > count
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
    assert len(answers) > 100
    assert [answer for answer in answers if b" 200 OK" not in answer] == []


async def test_thousands_of_websockets_get_1012_within_15_seconds(tmp_path: Path) -> None:
    variables = {"CHANNELBOX_DRAIN_SECONDS": "3"}
    redis_url = os.environ["CHANNELBOX_REDIS_URL"]
    async with installation(tmp_path, web=1, redis_url=redis_url, variables=variables) as local:
        # Many rooms: with a single one, presence frames would keep the test process too busy to answer pings in time.
        address = local.url.replace("http", "ws") + "/ws/chat/room{}/"
        sockets: list[ClientConnection] = []
        while len(sockets) < SOCKETS:
            rooms = range(50)
            sockets += await asyncio.gather(
                *(connect(address.format(room), compression=None, proxy=None, ping_interval=None) for room in rooms)
            )
        started = time.monotonic()
        stopped = asyncio.create_task(local.web[0].stop())
        closed = [asyncio.create_task(_close_code(each)) for each in sockets]
        assert await stopped == 0
        assert time.monotonic() - started < 15
        ends = await asyncio.gather(*closed)
    assert set(ends) == {1012}  # spread over the drain: realtime/test_protocol.py


async def _close_code(connection: ClientConnection) -> int | None:
    await connection.wait_closed()
    return connection.close_code


async def test_oversized_frames_get_1009_and_compression_is_not_offered(tmp_path: Path) -> None:
    redis_url = os.environ["CHANNELBOX_REDIS_URL"]
    async with (
        installation(tmp_path, web=1, workers=0, redis_url=redis_url) as local,
        await local.enter(compression="deflate") as alice,
    ):
        assert alice.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in alice.connection.response.headers
        await alice.connection.send("x" * 65_537)
        assert await alice.closed() == 1009


def test_proxy_headers_are_trusted_only_on_a_unix_socket(runtime: Path) -> None:
    with listen(runtime) as unix, server.bind("127.0.0.1", 0) as tcp:
        assert server.configuration(unix).proxy_headers is True
        assert server.configuration(unix).forwarded_allow_ips == "*"
        assert server.configuration(tcp).proxy_headers is False


def test_the_systemd_socket_is_ignored_if_meant_for_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert server.systemd_socket() is None


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:{}"), ("::1", "http://[::1]:{}")], ids=["IPv4", "IPv6"]
)
def test_the_listening_address_is_described_as_a_url(host: str, address: str) -> None:
    try:
        listener = server.bind(host, 0)
    except OSError:
        # Containers without IPv6 are common, and have no address to bind. IPv4 is always available.
        if ":" not in host:
            raise
        pytest.skip("this machine has no IPv6")
    with listener:
        assert server.describe(listener) == address.format(listener.getsockname()[1])
