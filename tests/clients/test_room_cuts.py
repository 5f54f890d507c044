"""Histories with connections cut anywhere: a client shows no gap and no duplicate, and each message is stored once."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.clients.scripted import HISTORY, Run, Server

from channelbox_client import Stored

STEPS = st.one_of(
    st.tuples(st.just("receive"), st.integers(1, 6)),
    st.tuples(st.just("deliver"), st.integers(1, 4)),
    st.tuples(st.just("another"), st.integers(1, 4)),
    st.tuples(st.just("flood"), st.just(20)),
    st.tuples(st.just("say"), st.integers(1, 3)),
    st.tuples(st.just("cut"), st.sampled_from([1006, 1012, 1013, 4000, 4008])),
    st.tuples(st.just("time"), st.sampled_from([0.1, 1.0, 30.0])),
    st.tuples(st.just("erase"), st.integers(1, 30)),
    st.tuples(st.just("anew"), st.integers(0, 40)),
    st.tuples(st.just("junk"), st.integers(0, 7)),
    st.tuples(st.just("repeat"), st.just(1)),
    st.tuples(st.just("lose"), st.just(1)),
    st.tuples(st.just("refuse"), st.integers(1, 5)),
)
JUNK: list[object] = [
    None,
    [],
    "text",
    {"type": "unheard-of", "x": 1},
    {"type": "welcome", "seq": 3, "resumed": False, "you": "mallory"},  # only the first welcome of a connection counts
    {"type": "gap", "from": "1", "to": None},
    {"error": "Invalid message format", "code": "invalid"},
    {"type": "stored", "id": "nobody's", "seq": 1},
]
SECOND_WELCOME = 4


def play(steps: list[tuple[str, float]], *, modern: bool) -> Run:
    server = Server(modern=modern)
    server.store("bob", "first", "hi")
    run = Run(server)
    sent = 0
    for what, how in steps:
        count = int(how)
        if what == "receive":
            run.receive(count)
        elif what == "deliver":
            run.deliver(count)
        elif what in ("another", "flood"):
            run.other_says(count)
        elif what == "say":
            for _ in range(count):
                sent += 1
                run.say(f"{sent}", f"id-{sent}")
        elif what == "cut":
            run.cut(count)
        elif what == "time":
            run.pass_time(how)
        elif what == "junk" and (run.client.room.welcomed or count != SECOND_WELCOME):
            run.receive_frame(JUNK[count])
        elif what == "refuse":
            server.refuses = count
        elif what == "repeat" and run.shown:
            run.receive_frame(run.shown[-1])
        elif what == "lose" and [frame.get("type") for frame in run.down[:2]] == ["message", "message"]:
            run.down.pop(0)  # the server leaves out an event without a gap frame
        elif what == "erase" and modern:
            run.cut()  # frames under way are not affected
            server.erase(1, min(count, server.newest))
        elif what == "anew" and modern:
            run.cut()
            server.recreate(count)
    run.settle()
    run.check()
    return run


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_no_gap_no_duplicate_and_each_message_is_answered_once(steps: list[tuple[str, float]]) -> None:
    run = play(steps, modern=True)
    assert all(len(answers) == 1 for answers in run.answers.values())
    assert all(isinstance(answers[0], Stored) for answers in run.answers.values())


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_messages_are_stored_once_by_servers_without_epoch_and_floor(steps: list[tuple[str, float]]) -> None:
    run = play(steps, modern=False)
    mine = [event["id"] for event in run.server.record.values() if event["user"] == "alice"]
    assert sorted(mine) == sorted(run.answers)
    if not any(what == "refuse" for what, _ in steps):
        assert mine == sorted(mine, key=lambda id: int(id.removeprefix("id-")))  # in the order in which they were sent


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("cut", range(HISTORY + 3))
def test_a_first_history_cut_anywhere_shows_the_same_events(modern: bool, cut: int) -> None:
    server = Server(modern=modern)
    for number in range(40):
        server.store("bob", f"{number}", "hi")
    run = Run(server)
    run.receive(cut)
    run.cut()
    run.settle()
    assert [event["seq"] for event in run.shown] == list(range(41 - HISTORY, 41))


def test_a_catch_up_cut_anywhere_shows_the_same_events() -> None:
    for missed in (3, 30):
        displays = set()
        for cut in range(missed + 3):
            server = Server()
            server.store("bob", "first", "hi")
            run = Run(server, seed=cut)
            run.settle()
            run.cut()
            run.other_says(missed)
            run.pass_time(30)
            run.receive(cut)
            run.cut()
            run.settle()
            run.check()
            displays.add(tuple(event["seq"] for event in run.shown))
        assert len(displays) == 1, displays


def test_events_of_a_recreated_room_are_not_mixed_with_old_ones() -> None:
    for events in range(30):
        run = play([("flood", 20), ("receive", 30), ("anew", events), ("time", 30)], modern=True)
        assert {event["epoch"] for event in run.shown} <= {"epoch-2"}


def test_random_timing_does_not_change_the_events_shown() -> None:
    rng = random.Random(12)
    for seed in range(20):
        run = Run(Server(), seed=seed)
        for _ in range(30):
            run.other_says(rng.randint(0, 3))
            run.receive(rng.randint(0, 3))
            if rng.random() < 0.2:
                run.cut()
            run.pass_time(rng.uniform(0, 4))
        run.settle()
        run.check()
