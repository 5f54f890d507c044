"""Admission control: the table of limits, and buckets that several processes share."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pytest_django import Settings
from tests.support.clock import Clock, clock_of
from tests.support.waiting import until

from channelbox.realtime import admission as admission_module
from channelbox.realtime import rate_sync, token_bucket
from channelbox.realtime.admission import TABLE, Admission, Kind, Limit, Source, connection_limit, sentence
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Close, Code, Refused
from channelbox.realtime.rate_sync import RateSync

ALICE = "u:1"
HOME = "192.0.2.1"

Start = Callable[[str], Awaitable[Admission]]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Return a function that starts the admission of a process of this name, with a bus of its own."""
    monkeypatch.setattr(rate_sync, "INTERVAL_SECONDS", 0.05)
    started: list[tuple[RateSync, Bus]] = []

    async def start(process: str) -> Admission:
        bus = Bus()
        started.append((RateSync(bus, process), bus))
        await started[-1][0].start()
        return Admission(started[-1][0])

    yield start
    for each, bus in started:
        await each.stop()
        await bus.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return clock_of(token_bucket, monkeypatch)


@pytest.mark.parametrize("kind", sorted(Kind))
def test_every_kind_has_limits_per_person_and_per_address(kind: Kind) -> None:
    person, address = limits_of(kind)
    assert person.burst >= 1
    assert address.rate >= person.rate


def limits_of(kind: Kind) -> tuple[Limit, Limit]:
    """Return the limits of a person and of an address."""
    row = TABLE[kind]
    assert row.person is not None and row.address is not None
    return row.person(), row.address()


async def test_charging_frames_creates_no_second_connection_bucket(bus: Bus) -> None:
    """The wire has each connection's buckets for frames and bytes; admission has those for all other kinds."""
    source = Source(HOME, ALICE)
    admission = Admission(RateSync(bus, "here"))
    for kind in (Kind.FRAMES, Kind.BYTES):
        assert connection_limit(kind).burst > 1
    admission.charge(source, 1, 100)
    assert source.buckets is None


@pytest.mark.parametrize("kind", [Kind.TYPING, Kind.ROOMS, Kind.JOINS, Kind.REQUESTS])
async def test_a_person_has_one_limit_across_all_processes(start: Start, clock: Clock, kind: Kind) -> None:
    here, there = await start("here"), await start("there")
    granted = 0
    while not here.take(kind, Source(None, ALICE))[0]:
        granted += 1
    assert granted == limits_of(kind)[0].burst
    assert not there.take(kind, Source(None, ALICE))[0], "not synchronised yet"
    await until(lambda: bool(there.take(kind, Source(None, ALICE))[0]))
    await until(lambda: not here.rate_sync._spent and not there.rate_sync._spent)
    assert there.take(kind, Source(None, ALICE))[0] > 0
    assert not there.take(kind, Source(None, "u:2"))[0]


async def test_typing_in_a_room_has_one_limit_across_all_processes(start: Start, clock: Clock) -> None:
    here, there = await start("here"), await start("there")
    person = 0
    while not here.take(Kind.TYPING, Source(HOME, f"u:{person}"), "lobby")[0]:
        person += 1
    room = TABLE[Kind.TYPING].room
    assert room is not None
    assert person == room().burst
    there.take(Kind.TYPING, Source(HOME, "u:1000"), "lobby")
    await until(lambda: bool(there.take(Kind.TYPING, Source(HOME, "u:1001"), "lobby")[0]))
    assert not there.take(Kind.TYPING, Source(HOME, "u:1001"), "elsewhere")[0]


async def test_refused_messages_consume_no_tokens(settings: Settings, clock: Clock) -> None:
    settings.CHANNELBOX_RATE, settings.CHANNELBOX_RATE_BURST = 1, 2
    admission, source = Admission(RateSync(Bus.current(), "here")), Source(HOME, ALICE)
    for _ in range(3):
        admission.admit(Kind.MESSAGES, source)
    for _ in range(20):
        with pytest.raises(Refused) as refused:
            admission.admit(Kind.MESSAGES, source, "my-id")
        assert refused.value.frame == {
            "error": "Too many messages. Try again in 1 s.",
            "code": Code.TOO_FAST,
            "id": "my-id",
            "retry_after": 1.0,
        }
        assert refused.value.close is None
    clock.now += 1
    admission.admit(Kind.MESSAGES, source)


def test_a_short_wait_is_rounded_up_to_a_tenth_of_a_second() -> None:
    assert sentence(Kind.MESSAGES, 0.037, "") == "Too many messages. Try again in 0.1 s."


async def test_exceeding_room_or_join_limits_closes_the_connection(settings: Settings, clock: Clock) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = settings.CHANNELBOX_JOINS_PERSON = 0.1
    admission = Admission(RateSync(Bus.current(), "here"))
    for kind in (Kind.ROOMS, Kind.JOINS):
        source = Source(HOME, ALICE)
        with pytest.raises(Refused) as refused:
            for _ in range(3):
                admission.admit(kind, source)
        assert refused.value.close is Close.TOO_MUCH


async def test_a_refunded_token_can_be_taken_exactly_once(settings: Settings, clock: Clock) -> None:
    settings.CHANNELBOX_NEW_ROOMS_PERSON = 3  # one at once
    admission, source = Admission(RateSync(Bus.current(), "here")), Source(HOME, ALICE)
    admission.refund(Kind.ROOMS, source)
    for _ in range(3):
        assert not admission.take(Kind.ROOMS, source)[0]
        assert admission.take(Kind.ROOMS, source)[0]
        admission.refund(Kind.ROOMS, source)


async def test_reading_is_charged_even_to_an_empty_bucket(settings: Settings, clock: Clock) -> None:
    settings.CHANNELBOX_RATE = settings.CHANNELBOX_RATE_BURST = 2
    settings.CHANNELBOX_RATE_PERSON = 2  # frames: ten a second, ten at once
    settings.CHANNELBOX_RATE_BYTES = 100_000
    admission, source = Admission(RateSync(Bus.current(), "here")), Source(HOME, ALICE)
    waits = [admission.charge(source, 1, 100) for _ in range(12)]
    assert waits == pytest.approx([0.0] * 9 + [0.1, 0.2, 0.3])
    assert admission.charge(source, 0, 0) == pytest.approx(0.3)
    known = len(admission.rate_sync)
    assert admission.charge(Source("198.51.100.7", "u:3"), 0, 0) == 0
    assert len(admission.rate_sync) == known, "checking creates no bucket"
    clock.now += 1
    assert admission.charge(source, 0, 0) == 0
    assert admission.charge(source, 0, 131_072) == pytest.approx(1 / 100_000), "bytes: two frames at once"
    assert admission.charge(Source(HOME, "u:2"), 1, 100) == 0


async def test_charges_of_a_person_reach_other_processes(start: Start, clock: Clock) -> None:
    here, there = await start("here"), await start("there")
    source = Source(None, ALICE)
    frames = limits_of(Kind.FRAMES)[0].burst
    assert there.charge(source, 1, 100) == 0
    assert here.charge(source, round(frames), 100) > 0
    await until(lambda: there.charge(source, 0, 0) > 0)


async def test_addresses_above_the_maximum_share_one_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "MAX_BUCKETS", 10)
    admission = Admission(RateSync(Bus.current(), "here"))
    for number in range(1000):
        admission.take(Kind.JOINS, Source(f"2001:db8:0:{number:x}::/64"))
    assert len(admission.rate_sync) == 11
    assert not admission.take(Kind.JOINS, Source("2001:db8:0:1::/64"))[0], "an early address keeps its own bucket"


async def test_ten_thousand_clients_of_one_address_can_reconnect_at_once(clock: Clock) -> None:
    """With the default limits, and twice: a client that reconnects after an outage may be disconnected once more."""
    admission = Admission(RateSync(Bus.current(), "here"))
    waits = [admission.take(Kind.JOINS, Source(HOME))[0] for _ in range(20_000)]
    waits += [admission.take(Kind.JOINS, Source(None, f"u:{number % 10_000}"))[0] for number in range(20_000)]
    assert not any(waits)
