"""Coalescing of concurrent lookups into one query."""

import asyncio
from collections.abc import Mapping

import pytest

from channelbox.realtime import batch_loader
from channelbox.realtime.batch_loader import MAX_KEYS, BatchLoader


class FakeDatabase:
    """A look-up of each key's double that waits for `proceed`. Negative keys are missing."""

    def __init__(self) -> None:
        self.lookups: list[list[int]] = []
        self.proceed = asyncio.Event()
        self.error: Exception | None = None

    async def look_up(self, keys: list[int]) -> Mapping[int, int]:
        self.lookups.append(keys)
        await self.proceed.wait()
        if self.error is not None:
            raise self.error
        return {key: key * 2 for key in keys if key >= 0}


async def request(loader: BatchLoader[int, int], *keys: int) -> list[asyncio.Task[int | None]]:
    tasks = [asyncio.create_task(loader.get(key)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def test_requests_during_a_lookup_share_the_next_lookup() -> None:
    database = FakeDatabase()
    loader = BatchLoader(database.look_up)
    first = await request(loader, 1)
    await asyncio.sleep(0)
    others = await request(loader, 2, 3, 2, 1)
    database.proceed.set()
    assert await asyncio.gather(*first, *others) == [2, 4, 6, 4, 2]
    assert database.lookups == [[1], [2, 3, 1]]


async def test_a_missing_key_is_none() -> None:
    database = FakeDatabase()
    database.proceed.set()
    assert await BatchLoader(database.look_up).get(-1) is None


async def test_a_failed_lookup_fails_all_its_callers_but_not_the_next() -> None:
    database = FakeDatabase()
    database.error = OSError("away")
    loader = BatchLoader(database.look_up)
    tasks = await request(loader, 1, 2)
    database.proceed.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    database.error = None
    assert await loader.get(1) == 2


async def test_a_cancelled_caller_does_not_affect_others() -> None:
    database = FakeDatabase()
    loader = BatchLoader(database.look_up)
    cancelled, waiting = await request(loader, 1, 1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    database.proceed.set()
    assert await waiting == 2


async def test_keys_of_cancelled_callers_are_not_looked_up() -> None:
    """Lookups for clients that left while the database was slow would make it slower for the others."""
    database = FakeDatabase()
    loader = BatchLoader(database.look_up)
    first = await request(loader, 1)
    cancelled = await request(loader, 2, 3)
    waiting = await request(loader, 3)
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    database.proceed.set()
    assert await asyncio.gather(*first, *waiting) == [2, 6]
    assert database.lookups == [[1], [3]]


async def test_many_keys_are_looked_up_in_batches_of_limited_size() -> None:
    database = FakeDatabase()
    database.proceed.set()
    loader = BatchLoader(database.look_up)
    await asyncio.gather(*(loader.get(key) for key in range(2 * MAX_KEYS)))
    assert max(map(len, database.lookups)) == MAX_KEYS
    assert len(database.lookups) == 2


async def crowded(
    monkeypatch: pytest.MonkeyPatch, wait: float, seconds: float
) -> tuple[FakeDatabase, BatchLoader[int, int]]:
    """Return a loader that has just looked up two keys, with these CROWD_WAIT_SECONDS and CROWD_SECONDS."""
    monkeypatch.setattr(batch_loader, "CROWD_WAIT_SECONDS", wait)
    monkeypatch.setattr(batch_loader, "CROWD_SECONDS", seconds)
    database = FakeDatabase()
    database.proceed.set()
    loader = BatchLoader(database.look_up)
    await asyncio.gather(loader.get(1), loader.get(2))
    return database, loader


async def test_requests_shortly_after_a_batch_share_the_next_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    database, loader = await crowded(monkeypatch, 0.5, 3600.0)
    (third,) = await request(loader, 3)
    await asyncio.sleep(0.01)  # some turns of the loop: far less time than it waits for more keys
    assert await asyncio.gather(third, loader.get(4)) == [6, 8]
    assert database.lookups == [[1, 2], [3, 4]]


async def test_a_single_request_after_many_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    _, loader = await crowded(monkeypatch, 3600.0, 0.01)
    await asyncio.sleep(0.02)  # the crowd is over by then: the time itself is what is tested
    async with asyncio.timeout(10):
        for key in range(3):
            assert await loader.get(key) == 2 * key


async def test_a_full_batch_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    _, loader = await crowded(monkeypatch, 3600.0, 3600.0)
    async with asyncio.timeout(10):
        await asyncio.gather(*(loader.get(key) for key in range(2 * MAX_KEYS)))


async def test_a_lookup_that_returns_none_raises_instead_of_hanging() -> None:
    async def look_up(keys: list[int]) -> Mapping[int, int]:
        answer: Mapping[int, int] = None  # type: ignore[assignment]
        return answer

    with pytest.raises(AttributeError):
        await asyncio.wait_for(BatchLoader(look_up).get(1), 10)
