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
def test_it_answers_with_just_what_follows_or_not_at_all(start: int, sizes: list[int], seq: int) -> None:
    ring, last = ReplayBuffer(), start
    for size in sizes:
        ring.add(last + 1, last + size, frames(last + 1, last + size))
        last += size
    expected = list(range(seq + 1, last + 1)) if seq >= start else None
    assert numbers(ring.since(seq)) == expected


def test_the_oldest_fall_out_past_the_limit_and_are_not_answered_for() -> None:
    ring = ReplayBuffer()
    for seq in range(1, module.MAX_RUNS + 11):
        ring.add(seq, seq, frames(seq, seq))
    assert ring.since(9) is None
    assert numbers(ring.since(10)) == list(range(11, module.MAX_RUNS + 11))


def test_bytes_are_bounded() -> None:
    ring, large = ReplayBuffer(), text_frame(b"x" * (module.MAX_BYTES // 2))
    for seq in (1, 2, 3):
        ring.add(seq, seq, large)
    assert ring.since(1) is None
    assert ring.since(2) == large


def test_of_a_run_that_is_longer_than_the_limit_the_newest_are_kept() -> None:
    ring, large = ReplayBuffer(), text_frame(b"x" * (module.MAX_BYTES // 20))
    ring.add(1, 1, large)
    ring.add(2, 41, large * 40)
    assert ring.since(20) is None
    assert ring.since(30) == large * 11
    ring.add(42, 42, large)
    assert ring.since(30) == large * 12
    assert ring._bytes <= module.MAX_BYTES


def test_a_run_that_does_not_follow_starts_anew() -> None:
    ring = ReplayBuffer()
    ring.add(1, 2, frames(1, 2))
    ring.add(5, 6, frames(5, 6))
    assert ring.since(2) is None
    assert numbers(ring.since(4)) == [5, 6]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data())
def test_an_event_that_changed_is_handed_out_as_it_is_now(sizes: list[int], data: st.DataObject) -> None:
    ring, last = ReplayBuffer(), 0
    for size in sizes:
        ring.add(last + 1, last + size, frames(last + 1, last + size))
        last += size
    seq = data.draw(st.integers(0, last + 1))
    ring.replace(seq, text_frame(b"%d" % -seq))
    assert numbers(ring.since(0)) == [-n if n == seq else n for n in range(1, last + 1)]
    assert ring._bytes == len(ring.since(0) or b"")


def test_an_empty_ring_knows_nothing() -> None:
    assert ReplayBuffer().since(0) is None


@given(st.lists(st.integers(1, 5), max_size=20), st.integers(0, 200))
def test_the_newest_that_fit_are_as_many_as_fit(sizes: list[int], max_bytes: int) -> None:
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
