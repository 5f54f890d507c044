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

CLIENTS = ("alice", "bob", "charlie")
ROOM = "r"


@dataclasses.dataclass
class HistoryBuilder:
    """Builds a history whose entries are a tenth of a second apart."""

    entries: list[Entry] = dataclasses.field(default_factory=list)
    at: float = 100.0

    def add(self, who: str, what: str, id: str = "", seq: int = 0, note: str = "") -> None:
        self.at += 0.1
        self.entries.append(Entry(self.at, who, what, ROOM if who or id else "", id, seq, note))

    def say(self, who: str, id: str) -> None:
        self.add(who, What.SAID, id)
        self.add(who, What.SENT, id)

    def deliver(self, id: str, seq: int, *clients: str) -> None:
        """Let the clients, by default all, receive a message; its sender thereby learns that it is stored."""
        for client in clients or CLIENTS:
            self.add(client, What.HEARD, id, seq)
            if id.startswith(client):
                self.add(client, What.ACCEPTED, id, seq)

    def row(self, id: str, seq: int) -> None:
        self.add("", What.STORED, id, seq)

    def verdict(self) -> Verdict:
        return judge(self.entries)


def conversation(order: list[str]) -> HistoryBuilder:
    """Return a history in which messages are sent in this order and nothing goes wrong."""
    builder = HistoryBuilder()
    for who in CLIENTS:
        builder.add(who, What.CONNECTED)
    counts = {who: itertools.count(1) for who in CLIENTS}
    ids = [f"{who}-{next(counts[who])}" for who in order]
    for seq, (who, id) in enumerate(zip(order, ids, strict=True), 1):
        builder.say(who, id)
        builder.deliver(id, seq)
    for seq, id in enumerate(ids, 1):
        builder.row(id, seq)
    return builder


def found(builder: HistoryBuilder) -> dict[str, int]:
    return {kind: count for kind, count in builder.verdict().counts.items() if count}


def pick(builder: HistoryBuilder, what: str, id: str, who: str = "") -> int:
    """Return the index of the first entry that matches."""
    return next(n for n, e in enumerate(builder.entries) if (e.what, e.id) == (what, id) and who in ("", e.who))


@given(st.lists(st.sampled_from(CLIENTS), max_size=30))
def test_a_correct_history_has_no_findings(order: list[str]) -> None:
    builder = conversation(order)
    assert found(builder) == {}
    assert builder.verdict().accepted == len(order)


def remove(builder: HistoryBuilder, n: int) -> None:
    del builder.entries[n]


def renumber(builder: HistoryBuilder, n: int, seq: int) -> None:
    builder.entries[n] = builder.entries[n]._replace(seq=seq)


def swap(builder: HistoryBuilder, one: int, other: int) -> None:
    """Swap the times of two entries."""
    a, b = builder.entries[one], builder.entries[other]
    builder.entries[one], builder.entries[other] = b._replace(at=a.at), a._replace(at=b.at)


def repeat(builder: HistoryBuilder, n: int, **changes: object) -> None:
    builder.entries.append(builder.entries[n]._replace(**changes))  # type: ignore[arg-type]


VIOLATIONS: dict[str, tuple[Callable[[HistoryBuilder], None], set[str]]] = {
    "accepted and not stored": (lambda s: remove(s, pick(s, What.STORED, "alice-2")), {LOST, GAP}),
    "stored twice": (lambda s: repeat(s, pick(s, What.STORED, "alice-1"), seq=6), {DOUBLED, GAP}),
    "received twice": (lambda s: repeat(s, pick(s, What.HEARD, "alice-1", "charlie")), {DOUBLED}),
    "received twice, under two numbers": (
        lambda s: repeat(s, pick(s, What.HEARD, "alice-1", "charlie"), seq=6),
        {DOUBLED},
    ),
    "not received by one client": (lambda s: remove(s, pick(s, What.HEARD, "alice-2", "charlie")), {GAP}),
    "the last message not received by one client": (
        lambda s: remove(s, pick(s, What.HEARD, "alice-3", "charlie")),
        {GAP},
    ),
    "a gap in the record": (lambda s: renumber(s, pick(s, What.STORED, "alice-3"), 6), {GAP, ABSENT}),
    "received in the wrong order": (
        lambda s: swap(s, pick(s, What.HEARD, "alice-1", "charlie"), pick(s, What.HEARD, "alice-2", "charlie")),
        {GAP, ORDER},
    ),
    "one number for two messages in the record": (
        lambda s: renumber(s, pick(s, What.STORED, "alice-3"), 4),
        {NUMBER, ABSENT},
    ),
    "one number for two messages of two clients": (
        lambda s: s.entries.__setitem__(
            pick(s, What.HEARD, "alice-2", "charlie"),
            s.entries[pick(s, What.HEARD, "alice-2", "charlie")]._replace(id="bob-9"),
        ),
        {NUMBER, LOST},
    ),
    "accepted under another number": (lambda s: renumber(s, pick(s, What.ACCEPTED, "alice-2"), 9), {ABSENT}),
    "refused and stored": (
        lambda s: s.entries.__setitem__(
            pick(s, What.ACCEPTED, "alice-2"), s.entries[pick(s, What.ACCEPTED, "alice-2")]._replace(what=What.REFUSED)
        ),
        {DENIED},
    ),
    "never answered": (lambda s: s.say("alice", "alice-9"), {UNANSWERED}),
    "against the protocol": (lambda s: s.add("charlie", What.BROKEN, note="the room went back"), {PROTOCOL}),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found(name: str) -> None:
    spoil, kinds = VIOLATIONS[name]
    builder = conversation(["alice", "bob", "alice", "bob", "alice"])
    spoil(builder)
    assert kinds <= set(found(builder))


def test_every_kind_of_finding_has_a_test_case() -> None:
    assert {kind for _, kinds in VIOLATIONS.values() for kind in kinds} == set(KINDS)


@pytest.mark.parametrize(("first", "second", "wrong"), [("alice-1", "alice-2", {}), ("alice-2", "alice-1", {ORDER: 1})])
def test_messages_stored_out_of_sending_order_are_found(first: str, second: str, wrong: dict[str, int]) -> None:
    builder = HistoryBuilder()
    for id in ("alice-1", "alice-2"):
        builder.say("alice", id)
    for seq, id in enumerate((first, second), 1):
        builder.deliver(id, seq)
        builder.row(id, seq)
    assert found(builder) == wrong


def test_a_refused_message_is_ordered_by_its_resend() -> None:
    builder = HistoryBuilder()
    builder.say("alice", "alice-1")
    builder.say("alice", "alice-2")
    builder.add("alice", What.REFUSED, "alice-1", note="queue_full")
    builder.deliver("alice-2", 1)
    builder.add("alice", What.SENT, "alice-1")
    builder.deliver("alice-1", 2)
    builder.row("alice-2", 1)
    builder.row("alice-1", 2)
    assert found(builder) == {}


def test_a_waiting_message_is_ordered_by_when_it_was_sent() -> None:
    builder = HistoryBuilder()
    builder.say("alice", "alice-1")
    builder.add("alice", What.SAID, "alice-2")
    builder.add("alice", What.REFUSED, "alice-1", note="queue_full")
    for seq, id in enumerate(("alice-1", "alice-2"), 1):
        builder.add("alice", What.SENT, id)
        builder.deliver(id, seq)
        builder.row(id, seq)
    assert found(builder) == {}


def test_a_resend_after_a_reconnect_keeps_the_original_order() -> None:
    builder = HistoryBuilder()
    builder.say("alice", "alice-1")
    builder.say("alice", "alice-2")
    builder.add("alice", What.CLOSED, note="1006")
    builder.add("alice", What.CONNECTED)
    builder.add("alice", What.SENT, "alice-1")
    for seq, id in enumerate(("alice-2", "alice-1"), 1):
        builder.deliver(id, seq)
        builder.row(id, seq)
    assert found(builder) == {ORDER: 1}


def test_a_lost_message_counts_once_for_all_clients() -> None:
    builder = conversation(["alice", "bob"])
    remove(builder, pick(builder, What.STORED, "bob-1"))
    assert found(builder)[LOST] == 1


# --- Staleness


def late(begins: float, ends: float, sent: float, received: float) -> Verdict:
    return judge(
        [
            Entry(0.0, "charlie", What.CONNECTED, ROOM),
            Entry(begins, "", What.BEGINS, note="a fault"),
            Entry(sent, "alice", What.SAID, ROOM, "alice-1"),
            Entry(ends, "", What.ENDS, note="a fault"),
            Entry(received, "charlie", What.HEARD, ROOM, "alice-1", 1),
            Entry(60.0, "", What.STORED, ROOM, "alice-1", 1),
        ]
    )


def test_staleness_of_earlier_messages_counts_from_the_faults_end() -> None:
    verdict = late(begins=10, ends=20, sent=11, received=23)
    assert [under.window.name for under in verdict.faults] == ["calm", "a fault"]
    assert verdict.faults[1].stale == 3
    assert verdict.faults[1].waited == 12


def test_staleness_of_later_messages_counts_from_sending() -> None:
    assert late(begins=10, ends=20, sent=25, received=31).faults[1].stale == 6


def test_absent_clients_are_not_stale() -> None:
    builder = [
        Entry(0.0, "charlie", What.CONNECTED, ROOM),
        Entry(1.0, "charlie", What.AWAY, ROOM),
        Entry(2.0, "alice", What.SAID, ROOM, "alice-1"),
        Entry(30.0, "charlie", What.CONNECTED, ROOM),
        Entry(30.5, "charlie", What.HEARD, ROOM, "alice-1", 1),
    ]
    assert judge(builder).faults[0].stale == 0.5


def test_a_finding_is_attributed_to_the_preceding_fault() -> None:
    builder = conversation(["alice", "bob"])
    builder.add("", What.BEGINS, note="first")
    builder.add("", What.ENDS, note="first")
    builder.add("", What.BEGINS, note="second")
    builder.add("", What.ENDS, note="second")
    repeat(builder, pick(builder, What.HEARD, "alice-1", "charlie"), at=builder.entries[-3].at + 0.05)
    assert [dict(under.wrong) for under in builder.verdict().faults] == [{}, {DOUBLED: 1}, {}]


def test_a_history_is_read_back_as_written(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.add("alice", What.HEARD, room="r", id="bob-1", seq=4)
    history.add("", What.BEGINS, note="Redis frozen")
    history.close()
    first, second = read(history.path)
    assert first[1:] == ("alice", What.HEARD, "r", "bob-1", 4, "")
    assert second.note == "Redis frozen"
    assert first.at <= second.at
