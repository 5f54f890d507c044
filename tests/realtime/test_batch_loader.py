"""Looking things up for many at once."""

import asyncio
from collections.abc import Mapping

import pytest

from channelbox.realtime import batch_loader
from channelbox.realtime.batch_loader import MAX_KEYS, BatchLoader


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


async def ask(loader: BatchLoader[int, int], *keys: int) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(loader.get(key)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_a_look_up_is_under_way_shares_the_next() -> None:
    record = Record()
    loader = BatchLoader(record.look_up)
    first = await ask(loader, 1)
    await asyncio.sleep(0)
    others = await ask(loader, 2, 3, 2, 1)
    record.go.set()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 4, 2]
    assert record.asked == [[1], [2, 3, 1]]


async def test_what_is_not_there_is_none() -> None:
    record = Record()
    record.go.set()
    assert await BatchLoader(record.look_up).get(-1) is None


async def test_a_failed_look_up_is_told_to_all_of_it_and_the_next_is_a_new_one() -> None:
    record = Record()
    record.error = OSError("away")
    loader = BatchLoader(record.look_up)
    tasks = await ask(loader, 1, 2)
    record.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    record.error = None
    assert await loader.get(1) == 2


async def test_one_that_gives_up_takes_the_answer_from_nobody() -> None:
    record = Record()
    loader = BatchLoader(record.look_up)
    impatient, patient = await ask(loader, 1, 1)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    record.go.set()
    assert await patient == 2


async def test_what_everybody_gave_up_is_not_looked_up() -> None:
    """People who went away while the database was slow would make it slower for those who stay."""
    record = Record()
    loader = BatchLoader(record.look_up)
    first = await ask(loader, 1)
    gone = await ask(loader, 2, 3)
    patient = await ask(loader, 3)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    record.go.set()
    assert await asyncio.gather(*first, *patient) == [2, 6]
    assert record.asked == [[1], [3]]


async def test_a_crowd_is_looked_up_in_portions() -> None:
    record = Record()
    record.go.set()
    loader = BatchLoader(record.look_up)
    await asyncio.gather(*(loader.get(key) for key in range(2 * MAX_KEYS)))
    assert max(map(len, record.asked)) == MAX_KEYS
    assert len(record.asked) == 2


async def crowded(monkeypatch: pytest.MonkeyPatch, wait: float, seconds: float) -> tuple[Record, BatchLoader[int, int]]:
    """Just looked up several keys at once; with these times in place of CROWD_WAIT_SECONDS and CROWD_SECONDS."""
    monkeypatch.setattr(batch_loader, "CROWD_WAIT_SECONDS", wait)
    monkeypatch.setattr(batch_loader, "CROWD_SECONDS", seconds)
    record = Record()
    record.go.set()
    loader = BatchLoader(record.look_up)
    await asyncio.gather(loader.get(1), loader.get(2))
    return record, loader


async def test_those_of_a_crowd_who_come_a_little_later_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    record, loader = await crowded(monkeypatch, 0.5, 3600.0)
    (third,) = await ask(loader, 3)
    await asyncio.sleep(0.01)  # some turns of the loop, far fewer than it waits for more
    assert await asyncio.gather(third, loader.get(4)) == [6, 8]
    assert record.asked == [[1, 2], [3, 4]]


async def test_who_comes_alone_does_not_wait_not_even_after_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    _, loader = await crowded(monkeypatch, 3600.0, 0.01)
    await asyncio.sleep(0.02)  # the crowd is over by then: the time itself is what is tested
    async with asyncio.timeout(10):
        for key in range(3):
            assert await loader.get(key) == 2 * key


async def test_a_full_portion_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    _, loader = await crowded(monkeypatch, 3600.0, 3600.0)
    async with asyncio.timeout(10):
        await asyncio.gather(*(loader.get(key) for key in range(2 * MAX_KEYS)))


async def test_an_answer_that_is_none_hangs_nobody() -> None:
    async def look_up(keys: list[int]) -> Mapping[int, int]:
        answer: Mapping[int, int] = None  # type: ignore[assignment]
        return answer

    with pytest.raises(AttributeError):
        await asyncio.wait_for(BatchLoader(look_up).get(1), 10)
