"""Judges a history, whose entries are the only input.

Each kind of finding has a name. The goal is that there is none.
"""

import bisect
import collections
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.faults.history import Entry, What

LOST = "lost"  # accepted, or received by a client, but not stored
DOUBLED = "doubled"  # stored twice, or received twice by one client
GAP = "gap"  # a number missing in the record or for a client, also at the end
ORDER = "order"  # a number after a greater one, or messages of a sender not in the order of sending
NUMBER = "number"  # one number for two messages
ABSENT = "absent"  # reported under one number, stored under another
DENIED = "denied"  # reported as not stored, but stored
UNANSWERED = "unanswered"  # neither accepted nor refused by the end
PROTOCOL = "protocol"  # something that a client must never see
KINDS = (LOST, DOUBLED, GAP, ORDER, NUMBER, ABSENT, DENIED, UNANSWERED, PROTOCOL)

Where = tuple[str, str]  # room, id


class Finding(NamedTuple):
    """One thing that is wrong. `at`: when it was seen, or when the message that it is about was sent."""

    kind: str
    at: float
    sentence: str


class Window(NamedTuple):
    """A fault, with the time until the next one begins. `ends` is when the fault itself was over."""

    name: str
    begins: float
    ends: float
    until: float


@dataclass
class FaultResult:
    """What was seen during and after one fault, or in the calm before the first."""

    window: Window
    wrong: collections.Counter[str] = field(default_factory=collections.Counter)
    accepted: int = 0
    stale: float = 0.0  # s from the end of the fault, or from sending if later, until the last client received it
    waited: float = 0.0  # s from sending until the last client received it, including the fault
    late: float = 0.0  # s of delay of the machine itself, which the application cannot help


@dataclass
class Verdict:
    """All findings, and the results of each fault."""

    findings: list[Finding]
    faults: list[FaultResult]
    said: int
    accepted: int
    stored: int
    clients: int
    reconnects: int

    @property
    def counts(self) -> collections.Counter[str]:
        return collections.Counter(finding.kind for finding in self.findings)


class _Case:
    """A history with indexes for the checks."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = sorted(entries, key=lambda entry: entry.at)
        self.rows = sorted(self.of(What.STORED), key=lambda row: (row.room, row.seq))
        self.numbers: dict[Where, list[int]] = collections.defaultdict(list)
        for row in self.rows:
            self.numbers[row.room, row.id].append(row.seq)
        self.said = {(entry.room, entry.id): entry for entry in self.of(What.SAID)}
        self.end = self.entries[-1].at if self.entries else 0.0
        # Kinds of findings by message: each counts once, however many clients see it
        self._reported: set[tuple[str, Where]] = set()
        self.heard: dict[tuple[str, str], list[Entry]] = collections.defaultdict(list)  # who, room
        for entry in self.of(What.CONNECTED, What.HEARD):
            heard = self.heard[entry.who, entry.room]
            if entry.what == What.HEARD:
                heard.append(entry)

    def of(self, *what: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.what in what]

    def when(self, room: str, id: str) -> float:
        return self.said[room, id].at if (room, id) in self.said else self.end

    # --- The record

    def record(self) -> Iterator[Finding]:
        """Check that each message is stored once, and that numbers are 1, 2, 3 ..."""
        last = collections.Counter[str]()
        for row in self.rows:
            at = self.when(row.room, row.id)
            if row.seq == last[row.room]:
                yield Finding(NUMBER, at, f"{row.room}: {row.seq} was given twice, also to {row.id}")
            elif row.seq != last[row.room] + 1:
                yield Finding(GAP, at, f"{row.room}: the record has nothing from {last[row.room] + 1} to {row.seq - 1}")
            last[row.room] = row.seq
        for (room, id), numbers in self.numbers.items():
            if len(numbers) > 1:
                yield Finding(DOUBLED, self.when(room, id), f"{room}: {id} is stored as {numbers}")

    def senders(self) -> Iterator[Finding]:
        """Check that each sender's messages are stored in the order of sending; refused ones count when sent again."""
        turn: dict[Where, int] = {}
        who: dict[Where, str] = {}
        for index, entry in enumerate(self.entries):
            where = (entry.room, entry.id)
            if entry.what == What.REFUSED:
                turn.pop(where, None)
            elif entry.what == What.SENT:
                turn.setdefault(where, index)
                who[where] = entry.who
        newest: dict[tuple[str, str], tuple[int, str]] = {}
        for row in self.rows:
            where = (row.room, row.id)
            if where not in who or where not in turn or row.seq != self.numbers[where][0]:
                continue
            line = (row.room, who[where])
            before, other = newest.get(line, (-1, ""))
            if turn[where] < before:
                yield Finding(ORDER, self.when(*where), f"{row.room}: {row.id} is stored after {other}")
            newest[line] = max((before, other), (turn[where], row.id))

    # --- What clients saw

    def answers(self) -> Iterator[Finding]:
        """Check that each message was answered, and that the answer was true."""
        answered: dict[Where, str] = {}
        for entry in self.of(What.SAID, What.SENT, What.ACCEPTED, What.REFUSED):
            where = (entry.room, entry.id)
            if entry.what == What.SENT and answered.get(where) != What.ACCEPTED:
                answered[where] = What.SENT
            elif entry.what in (What.ACCEPTED, What.REFUSED):
                answered[where] = entry.what
            if entry.what == What.ACCEPTED:
                yield from self._stored_as(entry)
        for where, entry in self.said.items():
            if (last := answered.get(where)) == What.REFUSED and self.numbers[where]:
                yield Finding(DENIED, entry.at, f"{entry.room}: {entry.id} was refused and is stored")
            elif last not in (What.ACCEPTED, What.REFUSED):
                yield Finding(UNANSWERED, entry.at, f"{entry.room}: {entry.id} has no answer")

    def listeners(self) -> Iterator[Finding]:
        """Check that every client received everything once, in order, and as it is in the record."""
        newest = {row.room: row.seq for row in self.rows}
        given = {(row.room, row.seq): row.id for row in self.rows}
        for (who, room), entries in self.heard.items():
            last = 0
            seen: set[int] = set()
            ids: set[str] = set()
            for entry in entries:
                if entry.seq in seen or entry.id in ids:
                    yield Finding(DOUBLED, entry.at, f"{who} heard {room}/{entry.seq} ({entry.id}) twice")
                elif entry.seq < last:
                    yield Finding(ORDER, entry.at, f"{who} heard {room}/{entry.seq} after {last}")
                elif entry.seq > last + 1:
                    yield Finding(GAP, entry.at, f"{who} heard {room}/{entry.seq} after {last}")
                if given.setdefault((room, entry.seq), entry.id) != entry.id:
                    other = given[room, entry.seq]
                    yield Finding(NUMBER, entry.at, f"{room}/{entry.seq} is {other} and, for {who}, {entry.id}")
                seen.add(entry.seq)
                ids.add(entry.id)
                last = max(last, entry.seq)
                yield from self._stored_as(entry)
            if last < newest.get(room, 0):
                at = max((entry.at for entry in entries), default=self.end)
                yield Finding(GAP, at, f"{who} heard {room} until {last}; it ends at {newest[room]}")

    def _stored_as(self, entry: Entry) -> Iterator[Finding]:
        where = (entry.room, entry.id)
        numbers = self.numbers.get(where, [])
        kind = LOST if not numbers else ABSENT
        if entry.seq not in numbers and (kind, where) not in self._reported:
            self._reported.add((kind, where))
            is_ = f"stored as {numbers}" if numbers else "not stored"
            yield Finding(kind, entry.at, f"{entry.who} was told {entry.room}/{entry.seq}: {entry.id} is {is_}")

    def protocol(self) -> Iterator[Finding]:
        for entry in self.of(What.BROKEN):
            yield Finding(PROTOCOL, entry.at, f"{entry.who}: {entry.note}")

    # --- Times

    def windows(self) -> list[Window]:
        """Return the calm at the start, then each fault until the next one."""
        begins = self.of(What.BEGINS)
        ends = self.of(What.ENDS)
        start = self.entries[0].at if self.entries else 0.0
        windows = [Window("calm", start, start, begins[0].at if begins else self.end)]
        for n, (begin, end) in enumerate(zip(begins, ends, strict=True), 1):
            windows.append(Window(begin.note, begin.at, end.at, begins[n].at if n < len(begins) else self.end))
        return windows

    def delays(self) -> Iterator[tuple[float, float]]:
        """Yield for each message and client that was present when it was due, and when it was received."""
        back: dict[tuple[str, str], list[tuple[float, float]]] = collections.defaultdict(list)
        left: dict[tuple[str, str], float] = {}
        for entry in self.of(What.AWAY, What.CONNECTED):
            line = (entry.who, entry.room)
            if entry.what == What.AWAY:
                left[line] = entry.at
            elif line in left:
                back[line].append((left.pop(line), entry.at))
        for line, entries in self.heard.items():
            for entry in entries:
                due = self.when(entry.room, entry.id)
                for gone, returned in back[line]:
                    if gone <= entry.at and due <= returned:
                        due = max(due, min(returned, entry.at))
                yield due, entry.at


def judge(entries: Iterable[Entry]) -> Verdict:
    """Return the verdict on a complete history: with the stored rows, and after all clients had time to catch up."""
    case = _Case(entries)
    checks = (case.record, case.senders, case.answers, case.listeners, case.protocol)
    findings = sorted((f for check in checks for f in check()), key=lambda finding: finding.at)
    windows = case.windows()
    faults = [FaultResult(window) for window in windows]
    starts = [window.begins for window in windows]

    def under(at: float) -> FaultResult:
        return faults[max(0, bisect.bisect_right(starts, at) - 1)]

    for finding in findings:
        under(finding.at).wrong[finding.kind] += 1
    for entry in case.of(What.LATE):
        under(entry.at).late += float(entry.note)
    for due, at in case.delays():
        fault = under(at)
        fault.waited = max(fault.waited, at - due)
        fault.stale = max(fault.stale, at - max(due, fault.window.ends))
    accepted = case.of(What.ACCEPTED)
    for entry in accepted:
        under(entry.at).accepted += 1
    reconnects = len(case.of(What.CONNECTED)) - len(case.heard)
    return Verdict(findings, faults, len(case.said), len(accepted), len(case.rows), len(case.heard), reconnects)
