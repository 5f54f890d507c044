"""The number of WebSockets that a node accepts as the package alone configures it."""

import json
from collections.abc import Iterator

import pytest
from probe.nodes import Nodes
from probe.people import Browser
from probe.waiting import until
from testinfra.host import Host

SOCKETS = 1_600
"""More than four nginx processes hold as Debian configures them: 768 connections each, two for a WebSocket."""

CLIENT = """
import asyncio, json, resource, ssl, sys

told = json.load(sys.stdin)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held, turn = [], asyncio.Semaphore(32)

async def one(left=5):
    async with turn:
        reader, writer = await asyncio.open_connection("box", 443, ssl=context)
        writer.write(told["request"].encode())
        head = await asyncio.wait_for(reader.readuntil(b"\\r\\n\\r\\n"), 60)
        try:
            frame = await asyncio.wait_for(reader.readuntil(b'"welcome"'), 60) if b" 101 " in head else b""
        except asyncio.IncompleteReadError as error:
            if b"try_later" not in error.partial or not left:
                raise RuntimeError(repr(error.partial)) from None
            frame = None  # a busy node says so, and clients then retry
        if frame is not None:
            held.append((reader, writer))
            return head.split()[1].decode() + ("" if frame else " without a welcome")
    await asyncio.sleep(2)
    return await one(left - 1)

async def all_of_them():
    answers = await asyncio.gather(*(one() for _ in range(told["sockets"])), return_exceptions=True)
    counts = {}
    for answer in answers:
        counts[str(answer)] = counts.get(str(answer), 0) + 1
    print(json.dumps(counts))

asyncio.run(all_of_them())
"""


@pytest.fixture
def high_socket_limits(nodes: Nodes) -> Iterator[None]:
    """Allow one person as many WebSockets as the test opens."""
    nodes.root("box", "printf 'CHANNELBOX_%s=5000\\n' SOCKETS_PERSON JOINS_PERSON > /etc/channelbox/web@1.env")
    nodes.root("box", "systemctl restart channelbox-web@1")
    yield
    nodes.root("box", "rm /etc/channelbox/web@1.env && systemctl restart channelbox-web@1")


def test_nginx_has_more_connections_and_debians_configuration_file(nodes: Nodes, box: Host) -> None:
    assert "worker_connections 768;" in box.file("/etc/nginx/nginx.conf").content_string
    # dpkg exits with 1 if it lists a file, so only its output is compared.
    assert nodes.root("box", "dpkg --verify nginx nginx-common nginx-light 2> /dev/null || true") == ""
    files = nodes.root("box", "grep 'open files' /proc/$(cat /run/nginx.pid)/limits").split()
    assert int(files[3]) >= 2 * SOCKETS
    nodes.root("box", "systemctl reload nginx && systemctl is-active --quiet nginx")


@pytest.fixture
def nginx_conf(nodes: Nodes) -> Iterator[str]:
    """The path of the main configuration, which is restored after the test."""
    path = "/etc/nginx/nginx.conf"
    nodes.root("box", f"cp -p {path} /root/nginx.conf")
    yield path
    nodes.root("box", f"mv /root/nginx.conf {path} && systemctl reload nginx")


@pytest.mark.parametrize("reload", ["systemctl reload nginx", "nginx -s reload"])
async def test_changes_of_nginx_conf_take_effect_on_reload(nodes: Nodes, nginx_conf: str, reload: str) -> None:
    ask = "exec 3<>/dev/tcp/localhost/80; printf 'GET / HTTP/1.0\\r\\nHost: box\\r\\n\\r\\n' >&3; cat <&3"
    nodes.root("box", f"sed -i 's/^http {{/&\\n\\tadd_header X-Mine yes;/' {nginx_conf}")
    if reload.startswith("nginx"):
        # The copy is made shortly after the file was written.
        await until(lambda: nodes["box"].run("grep X-Mine /etc/nginx/channelbox-nginx.conf").rc == 0, 10, "a copy")
    nodes.root("box", reload)
    await until(lambda: "X-Mine: yes" in nodes.root("box", f'bash -c "{ask}"'), 10, "the header")


def test_an_invalid_nginx_conf_is_reported_and_nginx_keeps_running(
    nodes: Nodes, nginx_conf: str, admin: Browser
) -> None:
    nodes.root("box", f"echo nonsense >> {nginx_conf}")
    assert nodes["box"].run("systemctl reload nginx").rc != 0
    assert "nginx rejects /etc/nginx/nginx.conf" in nodes.root("box", "journalctl -u nginx -n 20 -o cat")
    assert admin.request("GET", "/chat/")[0] == 200
    nodes.root("box", "systemctl is-system-running")


def test_node_accepts_more_websockets_than_debians_nginx(
    nodes: Nodes, high_socket_limits: None, room: str, admin: Browser
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
    arguments = json.dumps({"sockets": SOCKETS, "request": "\r\n".join(lines)})
    nodes.root("desk", f"cat > /tmp/sockets.py <<'END'\n{CLIENT}\nEND")
    answers = nodes.root("desk", f"python3 /tmp/sockets.py <<'END'\n{arguments}\nEND\nrm /tmp/sockets.py")
    assert json.loads(answers) == {"101": SOCKETS}
