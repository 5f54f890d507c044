"""How many sockets the node has room for as the package alone makes it."""

import json
from collections.abc import Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Browser
from testinfra.host import Host

SOCKETS = 1_600
"""More than two of Debian's nginx processes hold, and more than one of them would on a node of four cores."""

CLIENT = """
import asyncio, json, resource, ssl, sys

told = json.load(sys.stdin)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held, turn = [], asyncio.Semaphore(32)

async def one():
    async with turn:
        reader, writer = await asyncio.open_connection("box", 443, ssl=context)
        writer.write(told["request"].encode())
        head = await asyncio.wait_for(reader.readuntil(b"\\r\\n\\r\\n"), 60)
        frame = await asyncio.wait_for(reader.readuntil(b'"welcome"'), 60) if b" 101 " in head else b""
        held.append((reader, writer))
        return head.split()[1].decode() + ("" if frame else " without a welcome")

async def all_of_them():
    answers = await asyncio.gather(*(one() for _ in range(told["sockets"])), return_exceptions=True)
    counts = {}
    for answer in answers:
        counts[str(answer)] = counts.get(str(answer), 0) + 1
    print(json.dumps(counts))

asyncio.run(all_of_them())
"""


@pytest.fixture
def patient(nodes: Nodes) -> Iterator[None]:
    """One person may have as many sockets as the test opens."""
    nodes.root("box", "printf 'CHANNELBOX_%s=5000\\n' SOCKETS_PERSON JOINS_PERSON > /etc/channelbox/web@1.env")
    nodes.root("box", "systemctl restart channelbox-web@1")
    yield
    nodes.root("box", "rm /etc/channelbox/web@1.env && systemctl restart channelbox-web@1")


def test_nginx_runs_with_more_connections_and_its_configuration_is_debians(nodes: Nodes, box: Host) -> None:
    assert "worker_connections 768;" in box.file("/etc/nginx/nginx.conf").content_string
    # dpkg ends with 1 where it lists a file: what it lists is what counts.
    assert nodes.root("box", "dpkg --verify nginx nginx-common nginx-light 2> /dev/null || true") == ""
    files = nodes.root("box", "grep 'open files' /proc/$(cat /run/nginx.pid)/limits").split()
    assert int(files[3]) >= 2 * SOCKETS
    nodes.root("box", "systemctl reload nginx && systemctl is-active --quiet nginx")


def test_it_has_room_for_more_sockets_than_debians_nginx(
    nodes: Nodes, patient: None, room: str, admin: Browser
) -> None:
    headers = {
        "Host": "box",
        "Origin": "https://box",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        **admin.cookie_header,
    }
    lines = [f"GET /ws/chat/{room}/ HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    told = json.dumps({"sockets": SOCKETS, "request": "\r\n".join(lines)})
    nodes.root("desk", f"cat > /tmp/sockets.py <<'END'\n{CLIENT}\nEND")
    answers = nodes.root("desk", f"python3 /tmp/sockets.py <<'END'\n{told}\nEND\nrm /tmp/sockets.py")
    assert json.loads(answers) == {"101": SOCKETS}
