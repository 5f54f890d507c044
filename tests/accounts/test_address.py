"""The client address for which sign-in attempts count: as nginx passes it on, never as a client claims it."""

import http.client
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import channelbox

pytestmark = pytest.mark.django_db(transaction=True)
LOGIN = "/accounts/login/"
Connect = Callable[[], http.client.HTTPConnection]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def serve(listener: socket.socket) -> "subprocess.Popen[bytes]":
    """Start `channelbox web` on this socket. Connections wait in its queue until it is up."""
    listener.listen(100)
    os.set_inheritable(listener.fileno(), True)
    return subprocess.Popen(
        [sys.executable, "-m", "channelbox.cli.main", "web", "--fd", str(listener.fileno())],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(channelbox.__file__).parent.parent),
            "CHANNELBOX_SIGN_IN_ADDRESS": "2",
        },
        pass_fds=[listener.fileno()],
    )


@pytest.fixture
def behind_nginx() -> Iterator[Connect]:
    with tempfile.TemporaryDirectory(prefix="channelbox-") as folder:
        path = str(Path(folder, "web.sock"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            process = serve(listener)
        yield lambda: UnixConnection(path)
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture
def without_nginx() -> Iterator[Connect]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        process = serve(listener)
    yield lambda: http.client.HTTPConnection("localhost", port, timeout=30)
    process.terminate()
    assert process.wait(30) == 0


def attempt(connect: Connect, name: str, forwarded_for: str) -> int:
    """Try a wrong password through the page, as a browser does. Returns the HTTP status."""
    connection = connect()
    connection.request("GET", LOGIN)
    page = connection.getresponse()
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
    assert token
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": cookie,
        "X-Forwarded-For": forwarded_for,
    }
    connection.request("POST", LOGIN, f"username={name}&password=wrong&csrfmiddlewaretoken={token[1]}", headers)
    return connection.getresponse().status


def test_attempts_behind_nginx_count_for_the_forwarded_address(behind_nginx: Connect) -> None:
    assert [attempt(behind_nginx, f"a{n}", "192.0.2.1") for n in range(3)] == [200, 200, 429]
    assert attempt(behind_nginx, "a9", "192.0.2.2") == 200


def test_attempts_on_a_tcp_socket_ignore_the_forwarded_address(without_nginx: Connect) -> None:
    assert [attempt(without_nginx, f"b{n}", f"192.0.2.{n}") for n in range(3)] == [200, 200, 429]
