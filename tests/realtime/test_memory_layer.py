"""The tutorial's wrong set-up: Channels' in-memory layer ends at the process. Two real processes show it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest


class Person:
    """A process whose consumer is in the room."""

    def __init__(self, layer: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.realtime.tutorial"],
            env={**os.environ, "CHANNELBOX_LAYER": layer, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()

    def hears(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture
def people(layer: str) -> Iterator[list[Person]]:
    two = [Person(layer), Person(layer)]
    assert [person.hears() for person in two] == ["joined", "joined"]
    yield two
    for person in two:
        person.process.communicate(timeout=20)
        assert person.process.returncode == 0


@pytest.mark.parametrize("layer", ["memory"])
def test_on_the_memory_layer_two_processes_do_not_hear_each_other(people: list[Person]) -> None:
    alice, bob = people
    alice.say("is anybody there")
    assert alice.hears() == "is anybody there"
    bob.say("nobody spoke to me")
    assert bob.hears() == "nobody spoke to me"


@pytest.mark.parametrize("layer", ["redis"])
def test_on_our_layer_the_same_two_processes_do(people: list[Person]) -> None:
    alice, bob = people
    alice.say("is anybody there")
    assert [alice.hears(), bob.hears()] == ["is anybody there"] * 2
    bob.say("here I am")
    assert [alice.hears(), bob.hears()] == ["here I am"] * 2
