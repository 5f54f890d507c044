"""Two real processes: Channels' in-memory layer, a wrong choice, does not connect them; the default layer does."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest


class Client:
    """A process with a consumer that has joined the room."""

    def __init__(self, layer: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.realtime.tutorial"],
            env={**os.environ, "CHANNELBOX_LAYER": layer, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, message: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(message + "\n")
        self.process.stdin.flush()

    def receive(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def clients(layer: str) -> Iterator[list[Client]]:
    two = [Client(layer), Client(layer)]
    assert [client.receive() for client in two] == ["joined", "joined"]
    yield two
    for client in two:
        client.process.communicate(timeout=20)
        assert client.process.returncode == 0


@pytest.mark.parametrize("layer", ["memory"])
def test_the_memory_layer_does_not_connect_two_processes(clients: list[Client]) -> None:
    alice, bob = clients
    alice.send("is anybody there")
    assert alice.receive() == "is anybody there"
    bob.send("nobody spoke to me")
    assert bob.receive() == "nobody spoke to me"


@pytest.mark.parametrize("layer", ["redis"])
def test_the_default_layer_connects_two_processes(clients: list[Client]) -> None:
    alice, bob = clients
    alice.send("is anybody there")
    assert [alice.receive(), bob.receive()] == ["is anybody there"] * 2
    bob.send("here I am")
    assert [alice.receive(), bob.receive()] == ["here I am"] * 2
