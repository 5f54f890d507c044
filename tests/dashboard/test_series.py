"""The dashboard's series: a sample for each second, in a real Redis and as columns."""

import asyncio

import msgpack

from channelbox.dashboard.series import LENGTH, NODE, TOTALS, Recorder, read_series, series_of
from channelbox.monitoring.process_reports import Reporter
from channelbox.realtime import redis_keys


def sample(second, connections, nodes):
    return {"at": second, "totals": {"connections": connections}, "nodes": nodes}


def test_samples_become_columns():
    series = series_of([sample(10, 1, {"a": {"connections": 1}}), sample(11, 2, {"a": {"connections": 2}})])
    assert series["step_s"] == 1
    assert series["at"] == [10, 11]
    assert series["totals"]["connections"] == [1, 2]
    assert series["nodes"]["a"]["connections"] == [1, 2]


def test_a_second_without_a_sample_is_null():
    series = series_of([sample(10, 1, {}), sample(13, 4, {})])
    assert series["at"] == [10, 11, 12, 13]
    assert series["totals"]["connections"] == [1, None, None, 4]


def test_a_node_is_null_before_its_first_sample():
    series = series_of([sample(10, 1, {}), sample(11, 4, {"b": {"connections": 4}})])
    assert series["nodes"]["b"]["connections"] == [None, 4]


def test_an_empty_series_has_every_figure():
    series = series_of([])
    assert series == {"step_s": 1, "at": [], "totals": {figure: [] for figure in TOTALS}, "nodes": {}}
    assert set(series_of([sample(1, 1, {"a": {}})])["nodes"]["a"]) == set(NODE)


async def until_samples(count):
    async with asyncio.timeout(10):
        while len((series := await read_series())["at"]) < count:
            await asyncio.sleep(0.05)
    return series


async def test_each_second_is_recorded_once_over_all_processes(bus):
    parts: list[Reporter | Recorder] = [Reporter("web"), Recorder(), Recorder(), Recorder()]
    for part in parts:
        await part.start()
    series = await until_samples(4)
    for part in parts:
        await part.stop()
    stored = [
        msgpack.unpackb(entry)["at"]
        for entry in await bus.client(redis_keys.series()).lrange(redis_keys.series(), 0, -1)
    ]
    assert stored == list(range(stored[0], stored[0] + len(stored)))
    assert series["totals"]["processes"][-1] == 1
    assert len(series["nodes"]["test"]["connections"]) == len(series["at"])


async def test_recording_continues_when_the_recording_process_stops(bus):
    first, second = Recorder(), Recorder()
    await first.start()
    await second.start()
    await until_samples(1)
    await first.stop()
    begun = len((await read_series())["at"])
    series = await until_samples(begun + 2)
    await second.stop()
    assert None not in series["totals"]["processes"]


async def test_the_list_is_trimmed_to_fifteen_minutes(bus):
    client = bus.client(redis_keys.series())
    now, _ = await client.time()
    old = [msgpack.packb(sample(now - age, age, {})) for age in range(LENGTH + 20, 0, -1)]
    await client.rpush(redis_keys.series(), *old)
    recorder = Recorder()
    await recorder.start()
    async with asyncio.timeout(5):
        while await client.llen(redis_keys.series()) > LENGTH:
            await asyncio.sleep(0.02)
    await recorder.stop()
    assert len((await read_series())["at"]) <= LENGTH


async def test_samples_older_than_the_window_are_left_out(bus):
    client = bus.client(redis_keys.series())
    now, _ = await client.time()
    await client.rpush(
        redis_keys.series(), msgpack.packb(sample(now - 7200, 5, {})), msgpack.packb(sample(now - 3, 6, {}))
    )
    assert (await read_series())["totals"]["connections"] == [6]
