"""A demonstration of the setup that this cluster avoids: a layer in memory does not reach other processes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from probe import network
from probe.nodes import Nodes
from websockets.asyncio.client import ClientConnection, connect

PORTS = (9101, 9102)
PYTHON = "/opt/venvs/channelbox/bin/python"
TUTORIAL = Path(__file__).with_name("tutorial.py")
MEMORY, REDIS = "channels.layers.InMemoryChannelLayer", "channelbox.realtime.layer.ChannelLayer"


@pytest.fixture
def tutorial(nodes: Nodes, request: pytest.FixtureRequest) -> Iterator[str]:
    """The consumer of the tutorial in two processes on web1, on the layer that the test names."""
    layer: str = request.param
    nodes.root("web1", f"cat > /run/tutorial.py <<'EOF'\n{TUTORIAL.read_text()}\nEOF")
    run = "systemd-run --quiet --collect --property=EnvironmentFile=/etc/channelbox/channelbox.env"
    for port in PORTS:
        nodes.root(
            "web1", f"{run} --unit=tutorial-{port} --setenv=TUTORIAL_LAYER={layer} {PYTHON} /run/tutorial.py {port}"
        )
    yield layer
    for port in PORTS:
        nodes.root("web1", f"systemctl stop tutorial-{port}")


async def _connect(nodes: Nodes, port: int) -> ClientConnection:
    deadline = asyncio.get_running_loop().time() + 15
    while True:
        try:
            raw = await asyncio.to_thread(network.connect, nodes.cluster, "web1", "127.0.0.1", port)
            raw.setblocking(False)
            return await connect(f"ws://127.0.0.1:{port}/ws/chat/lobby/", sock=raw)
        except OSError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)


async def _receivers(first: ClientConnection, second: ClientConnection) -> list[str]:
    """Let the first client send a message, and return which of the two receive it."""
    await first.send(json.dumps({"message": "anybody there?"}))
    receivers = []
    for name, client in (("speaker", first), ("other process", second)):
        try:
            frame = json.loads(await asyncio.wait_for(client.recv(), 3))
            assert frame["message"] == "anybody there?"
            receivers.append(name)
        except TimeoutError:
            continue
    return receivers


@pytest.mark.parametrize(
    ("tutorial", "expected"),
    [(MEMORY, ["speaker"]), (REDIS, ["speaker", "other process"])],
    indirect=["tutorial"],
    ids=["in memory", "over Redis"],
)
async def test_messages_cross_processes_over_redis_but_not_in_memory(
    nodes: Nodes, tutorial: str, expected: list[str]
) -> None:
    first, second = [await _connect(nodes, port) for port in PORTS]
    async with first, second:
        assert await _receivers(first, second) == expected


@pytest.fixture
def memory_layer(nodes: Nodes) -> Iterator[None]:
    """An administrator's mistake in the settings of web1. No process is restarted with it."""
    settings = "/etc/channelbox/channelbox.env"
    nodes.root("web1", f"cp --preserve {settings} {settings}.right && echo CHANNELBOX_LAYER=memory >> {settings}")
    yield
    nodes.root("web1", f"mv {settings}.right {settings}")


def test_check_accepts_the_cluster(nodes: Nodes) -> None:
    for node in nodes.groups["web"] + nodes.groups["worker"]:
        nodes.root(node, "channelbox check")


def test_check_rejects_the_in_memory_layer(nodes: Nodes, memory_layer: None) -> None:
    refused = nodes["web1"].run("channelbox check")
    assert refused.rc == 1
    assert "CHANNELBOX_LAYER" in refused.stdout + refused.stderr
