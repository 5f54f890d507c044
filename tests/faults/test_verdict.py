"""The verdict finds each kind of violation, and nothing if nothing is wrong."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.faults.history import Entry, History, What, read
from tests.faults.verdict import (
    ABSENT,
    DENIED,
    DOUBLED,
    GAP,
    KINDS,
    LOST,
    NUMBER,
    ORDER,
    PROTOCOL,
    UNANSWERED,
    Verdict,
    judge,
)

LISTENERS = ("alice", "bob", "charlie")
ROOM = "r"


@dataclasses.dataclass
class Story:
    """Builds a history whose entries follow each other by a tenth of a second."""

    entries: list[Entry] = dataclasses.field(default_factory=list)
    at: float = 100.0

    def add(self, who: str, what: str, id: str = "", seq: int = 0, note: str = "") -> None:
        self.at += 0.1
        self.entries.append(Entry(self.at, who, what, ROOM if who or id else "", id, seq, note))

    def say(self, who: str, id: str) -> None:
        self.add(who, What.SAID, id)
        self.add(who, What.SENT, id)

    def tell(self, id: str, seq: int, *listeners: str) -> None:
        """Let the listeners, by default everybody, receive a message; its sender thereby learns that it is stored."""
        for listener in listeners or LISTENERS:
            self.add(listener, What.HEARD, id, seq)
            if id.startswith(listener):
                self.add(listener, What.ACCEPTED, id, seq)

    def row(self, id: str, seq: int) -> None:
        self.add("", What.STORED, id, seq)

    def verdict(self) -> Verdict:
        return judge(self.entries)


def conversation(order: list[str]) -> Story:
    """Return a story in which messages are sent in this order and nothing goes wrong."""
    story = Story()
    for who in LISTENERS:
        story.add(who, What.CONNECTED)
    counts = {who: itertools.count(1) for who in LISTENERS}
    ids = [f"{who}-{next(counts[who])}" for who in order]
    for seq, (who, id) in enumerate(zip(order, ids, strict=True), 1):
        story.say(who, id)
        story.tell(id, seq)
    for seq, id in enumerate(ids, 1):
        story.row(id, seq)
    return story


def found(story: Story) -> dict[str, int]:
    return {kind: count for kind, count in story.verdict().counts.items() if count}


def pick(story: Story, what: str, id: str, who: str = "") -> int:
    """Return the index of the first entry that matches."""
    return next(n for n, e in enumerate(story.entries) if (e.what, e.id) == (what, id) and who in ("", e.who))


@given(st.lists(st.sampled_from(LISTENERS), max_size=30))
def test_nothing_is_found_where_nothing_is_wrong(order: list[str]) -> None:
    story = conversation(order)
    assert found(story) == {}
    assert story.verdict().accepted == len(order)


def remove(story: Story, n: int) -> None:
    del story.entries[n]


def renumber(story: Story, n: int, seq: int) -> None:
    story.entries[n] = story.entries[n]._replace(seq=seq)


def swap(story: Story, one: int, other: int) -> None:
    """Swap the times of two entries."""
    a, b = story.entries[one], story.entries[other]
    story.entries[one], story.entries[other] = b._replace(at=a.at), a._replace(at=b.at)


def repeat(story: Story, n: int, **changes: object) -> None:
    story.entries.append(story.entries[n]._replace(**changes))  # type: ignore[arg-type]


WRONG: dict[str, tuple[Callable[[Story], None], set[str]]] = {
    "accepted and not stored": (lambda s: remove(s, pick(s, What.STORED, "alice-2")), {LOST, GAP}),
    "stored twice": (lambda s: repeat(s, pick(s, What.STORED, "alice-1"), seq=6), {DOUBLED, GAP}),
    "heard twice": (lambda s: repeat(s, pick(s, What.HEARD, "alice-1", "charlie")), {DOUBLED}),
    "heard twice, under two numbers": (
        lambda s: repeat(s, pick(s, What.HEARD, "alice-1", "charlie"), seq=6),
        {DOUBLED},
    ),
    "not heard by one": (lambda s: remove(s, pick(s, What.HEARD, "alice-2", "charlie")), {GAP}),
    "the end not heard by one": (lambda s: remove(s, pick(s, What.HEARD, "alice-3", "charlie")), {GAP}),
    "a hole in the record": (lambda s: renumber(s, pick(s, What.STORED, "alice-3"), 6), {GAP, ABSENT}),
    "heard in the wrong order": (
        lambda s: swap(s, pick(s, What.HEARD, "alice-1", "charlie"), pick(s, What.HEARD, "alice-2", "charlie")),
        {GAP, ORDER},
    ),
    "one number for two in the record": (lambda s: renumber(s, pick(s, What.STORED, "alice-3"), 4), {NUMBER, ABSENT}),
    "one number for two who listen": (
        lambda s: s.entries.__setitem__(
            pick(s, What.HEARD, "alice-2", "charlie"),
            s.entries[pick(s, What.HEARD, "alice-2", "charlie")]._replace(id="bob-9"),
        ),
        {NUMBER, LOST},
    ),
    "told under another number": (lambda s: renumber(s, pick(s, What.ACCEPTED, "alice-2"), 9), {ABSENT}),
    "refused and stored": (
        lambda s: s.entries.__setitem__(
            pick(s, What.ACCEPTED, "alice-2"), s.entries[pick(s, What.ACCEPTED, "alice-2")]._replace(what=What.REFUSED)
        ),
        {DENIED},
    ),
    "never answered": (lambda s: s.say("alice", "alice-9"), {UNANSWERED}),
    "against the protocol": (lambda s: s.add("charlie", What.BROKEN, note="the room went back"), {PROTOCOL}),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_kind_of_wrong_is_found(name: str) -> None:
    spoil, kinds = WRONG[name]
    story = conversation(["alice", "bob", "alice", "bob", "alice"])
    spoil(story)
    assert kinds <= set(found(story))


def test_every_kind_has_a_history_that_is_wrong_in_this_way() -> None:
    assert {kind for _, kinds in WRONG.values() for kind in kinds} == set(KINDS)


@pytest.mark.parametrize(("first", "second", "wrong"), [("alice-1", "alice-2", {}), ("alice-2", "alice-1", {ORDER: 1})])
def test_a_sender_s_messages_are_stored_in_the_order_of_sending(first: str, second: str, wrong: dict[str, int]) -> None:
    story = Story()
    for id in ("alice-1", "alice-2"):
        story.say("alice", id)
    for seq, id in enumerate((first, second), 1):
        story.tell(id, seq)
        story.row(id, seq)
    assert found(story) == wrong


def test_what_was_refused_takes_its_place_when_it_is_sent_again() -> None:
    story = Story()
    story.say("alice", "alice-1")
    story.say("alice", "alice-2")
    story.add("alice", What.REFUSED, "alice-1", note="queue_full")
    story.tell("alice-2", 1)
    story.add("alice", What.SENT, "alice-1")
    story.tell("alice-1", 2)
    story.row("alice-2", 1)
    story.row("alice-1", 2)
    assert found(story) == {}


def test_what_waits_behind_something_refused_takes_its_place_when_it_is_sent() -> None:
    story = Story()
    story.say("alice", "alice-1")
    story.add("alice", What.SAID, "alice-2")
    story.add("alice", What.REFUSED, "alice-1", note="queue_full")
    for seq, id in enumerate(("alice-1", "alice-2"), 1):
        story.add("alice", What.SENT, id)
        story.tell(id, seq)
        story.row(id, seq)
    assert found(story) == {}


def test_sending_again_after_a_reconnect_changes_nothing_of_the_order() -> None:
    story = Story()
    story.say("alice", "alice-1")
    story.say("alice", "alice-2")
    story.add("alice", What.CLOSED, note="1006")
    story.add("alice", What.CONNECTED)
    story.add("alice", What.SENT, "alice-1")
    for seq, id in enumerate(("alice-2", "alice-1"), 1):
        story.tell(id, seq)
        story.row(id, seq)
    assert found(story) == {ORDER: 1}


def test_one_message_that_is_lost_counts_once_however_many_heard_it() -> None:
    story = conversation(["alice", "bob"])
    remove(story, pick(story, What.STORED, "bob-1"))
    assert found(story)[LOST] == 1


# --- How long somebody was behind


def late(begins: float, ends: float, said: float, heard: float) -> Verdict:
    return judge(
        [
            Entry(0.0, "charlie", What.CONNECTED, ROOM),
            Entry(begins, "", What.BEGINS, note="a fault"),
            Entry(said, "alice", What.SAID, ROOM, "alice-1"),
            Entry(ends, "", What.ENDS, note="a fault"),
            Entry(heard, "charlie", What.HEARD, ROOM, "alice-1", 1),
            Entry(60.0, "", What.STORED, ROOM, "alice-1", 1),
        ]
    )


def test_staleness_counts_from_the_fault_s_end_for_what_was_said_before_it() -> None:
    verdict = late(begins=10, ends=20, said=11, heard=23)
    assert [under.window.name for under in verdict.faults] == ["calm", "a fault"]
    assert verdict.faults[1].stale == 3
    assert verdict.faults[1].waited == 12


def test_staleness_counts_from_saying_for_what_was_said_after_the_fault() -> None:
    assert late(begins=10, ends=20, said=25, heard=31).faults[1].stale == 6


def test_who_is_away_is_not_stale() -> None:
    story = [
        Entry(0.0, "charlie", What.CONNECTED, ROOM),
        Entry(1.0, "charlie", What.AWAY, ROOM),
        Entry(2.0, "alice", What.SAID, ROOM, "alice-1"),
        Entry(30.0, "charlie", What.CONNECTED, ROOM),
        Entry(30.5, "charlie", What.HEARD, ROOM, "alice-1", 1),
    ]
    assert judge(story).faults[0].stale == 0.5


def test_a_finding_belongs_to_the_fault_after_which_it_showed() -> None:
    story = conversation(["alice", "bob"])
    story.add("", What.BEGINS, note="first")
    story.add("", What.ENDS, note="first")
    story.add("", What.BEGINS, note="second")
    story.add("", What.ENDS, note="second")
    repeat(story, pick(story, What.HEARD, "alice-1", "charlie"), at=story.entries[-3].at + 0.05)
    assert [dict(under.wrong) for under in story.verdict().faults] == [{}, {DOUBLED: 1}, {}]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add("alice", What.HEARD, room="r", id="bob-1", seq=4)
    history.add("", What.BEGINS, note="Redis frozen")
    history.close()
    first, second = read(history.path)
    assert first[1:] == ("alice", What.HEARD, "r", "bob-1", 4, "")
    assert second.note == "Redis frozen"
    assert first.at <= second.at
