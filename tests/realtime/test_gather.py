"""Looking things up for many at once."""

import asyncio
from collections.abc import Mapping

import pytest

from channelbox.realtime import gather as gathering
from channelbox.realtime.gather import AT_ONCE, Gather


class Record:
    """Answers with the key's double, when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def look_up(self, keys: list[int]) -> Mapping[int, int]:
        self.asked.append(keys)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return {key: key * 2 for key in keys if key >= 0}


async def ask(gather: Gather[int, int], *keys: int) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(gather.get(key)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_a_look_up_is_under_way_shares_the_next() -> None:
    record = Record()
    gather = Gather(record.look_up)
    first = await ask(gather, 1)
    await asyncio.sleep(0)
    others = await ask(gather, 2, 3, 2, 1)
    record.go.set()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 4, 2]
    assert record.asked == [[1], [2, 3, 1]]


async def test_what_is_not_there_is_none() -> None:
    record = Record()
    record.go.set()
    assert await Gather(record.look_up).get(-1) is None


async def test_a_failed_look_up_is_told_to_all_of_it_and_the_next_is_a_new_one() -> None:
    record = Record()
    record.error = OSError("away")
    gather = Gather(record.look_up)
    tasks = await ask(gather, 1, 2)
    record.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    record.error = None
    assert await gather.get(1) == 2


async def test_one_that_gives_up_takes_the_answer_from_nobody() -> None:
    record = Record()
    gather = Gather(record.look_up)
    impatient, patient = await ask(gather, 1, 1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    record.go.set()
    assert await patient == 2


async def test_what_everybody_gave_up_is_not_looked_up() -> None:
    """People who went away while the database was slow would make it slower for those who stay."""
    record = Record()
    gather = Gather(record.look_up)
    first = await ask(gather, 1)
    gone = await ask(gather, 2, 3)
    patient = await ask(gather, 3)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    record.go.set()
    assert await asyncio.gather(*first, *patient) == [2, 6]
    assert record.asked == [[1], [3]]


async def test_a_crowd_is_looked_up_in_portions() -> None:
    record = Record()
    record.go.set()
    gather = Gather(record.look_up)
    await asyncio.gather(*(gather.get(key) for key in range(2 * AT_ONCE)))
    assert max(map(len, record.asked)) == AT_ONCE
    assert len(record.asked) == 2


async def crowded(monkeypatch: pytest.MonkeyPatch, wait: float, seconds: float) -> tuple[Record, Gather[int, int]]:
    """Of whom several have just been looked up, with these times in the place of CROWD_WAIT and CROWD_SECONDS."""
    monkeypatch.setattr(gathering, "CROWD_WAIT", wait)
    monkeypatch.setattr(gathering, "CROWD_SECONDS", seconds)
    record = Record()
    record.go.set()
    gather = Gather(record.look_up)
    await asyncio.gather(gather.get(1), gather.get(2))
    return record, gather


async def test_those_of_a_crowd_who_come_a_little_later_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    record, gather = await crowded(monkeypatch, 0.5, 3600.0)
    (third,) = await ask(gather, 3)
    await asyncio.sleep(0.01)  # some turns of the loop, far fewer than it waits for more
    assert await asyncio.gather(third, gather.get(4)) == [6, 8]
    assert record.asked == [[1, 2], [3, 4]]


async def test_who_comes_alone_does_not_wait_not_even_after_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    _, gather = await crowded(monkeypatch, 3600.0, 0.01)
    await asyncio.sleep(0.02)  # the crowd is over by then: the time itself is what is tested
    async with asyncio.timeout(10):
        for key in range(3):
            assert await gather.get(key) == 2 * key


async def test_a_full_portion_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    _, gather = await crowded(monkeypatch, 3600.0, 3600.0)
    async with asyncio.timeout(10):
        await asyncio.gather(*(gather.get(key) for key in range(2 * AT_ONCE)))


async def test_an_answer_that_is_none_hangs_nobody() -> None:
    async def look_up(keys: list[int]) -> Mapping[int, int]:
        answer: Mapping[int, int] = None  # type: ignore[assignment]
        return answer

    with pytest.raises(AttributeError):
        await asyncio.wait_for(Gather(look_up).get(1), 10)
