"""The replay buffer: the newest events of a room, bounded in number and bytes."""

from hypothesis import given
from hypothesis import strategies as st

from channelbox.realtime import replay_buffer as module
from channelbox.realtime.frames import payloads, text_frame
from channelbox.realtime.replay_buffer import ReplayBuffer


def frames(first: int, last: int) -> bytes:
    return b"".join(text_frame(b"%d" % seq) for seq in range(first, last + 1))


def numbers(run: bytes | None) -> list[int] | None:
    return None if run is None else [int(bytes(payload)) for _, payload in payloads(run)]


@given(st.integers(0, 50), st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 200))
def test_since_returns_exactly_the_following_events_or_none(start: int, sizes: list[int], seq: int) -> None:
    buffer, last = ReplayBuffer(), start
    for size in sizes:
        buffer.add(last + 1, last + size, frames(last + 1, last + size))
        last += size
    expected = list(range(seq + 1, last + 1)) if seq >= start else None
    assert numbers(buffer.since(seq)) == expected


def test_the_oldest_runs_are_dropped_above_the_limit() -> None:
    buffer = ReplayBuffer()
    for seq in range(1, module.MAX_RUNS + 11):
        buffer.add(seq, seq, frames(seq, seq))
    assert buffer.since(9) is None
    assert numbers(buffer.since(10)) == list(range(11, module.MAX_RUNS + 11))


def test_the_buffer_is_bounded_in_bytes() -> None:
    buffer, large = ReplayBuffer(), text_frame(b"x" * (module.MAX_BYTES // 2))
    for seq in (1, 2, 3):
        buffer.add(seq, seq, large)
    assert buffer.since(1) is None
    assert buffer.since(2) == large


def test_a_run_above_the_byte_limit_keeps_its_newest_frames() -> None:
    buffer, large = ReplayBuffer(), text_frame(b"x" * (module.MAX_BYTES // 20))
    buffer.add(1, 1, large)
    buffer.add(2, 41, large * 40)
    assert buffer.since(20) is None
    assert buffer.since(30) == large * 11
    buffer.add(42, 42, large)
    assert buffer.since(30) == large * 12
    assert buffer._bytes <= module.MAX_BYTES


def test_a_run_after_a_hole_replaces_the_buffer() -> None:
    buffer = ReplayBuffer()
    buffer.add(1, 2, frames(1, 2))
    buffer.add(5, 6, frames(5, 6))
    assert buffer.since(2) is None
    assert numbers(buffer.since(4)) == [5, 6]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data())
def test_a_replaced_event_is_returned_in_its_new_form(sizes: list[int], data: st.DataObject) -> None:
    buffer, last = ReplayBuffer(), 0
    for size in sizes:
        buffer.add(last + 1, last + size, frames(last + 1, last + size))
        last += size
    seq = data.draw(st.integers(0, last + 1))
    buffer.replace(seq, text_frame(b"%d" % -seq))
    assert numbers(buffer.since(0)) == [-n if n == seq else n for n in range(1, last + 1)]
    assert buffer._bytes == len(buffer.since(0) or b"")


def test_an_empty_buffer_returns_none() -> None:
    assert ReplayBuffer().since(0) is None


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(0, 200))
def test_newest_returns_as_many_events_as_fit(sizes: list[int], max_bytes: int) -> None:
    buffer, last = ReplayBuffer(), 95
    for size in sizes:
        buffer.add(last + 1, last + size, frames(last + 1, last + size))
        last += size
    start = buffer.newest(max_bytes)
    if not sizes:
        assert start is None
        return
    assert start is not None
    assert len(frames(start + 1, last)) <= max_bytes
    assert start == 95 or len(frames(start, last)) > max_bytes
