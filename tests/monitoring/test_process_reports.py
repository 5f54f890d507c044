"""Reports in a real Redis."""

import asyncio
import time

import pytest

from channelbox.monitoring import process_reports
from channelbox.monitoring.health import state
from channelbox.monitoring.histogram import bucket
from channelbox.monitoring.process_reports import Report, Reporter, mark_of, read_processes
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters, observe


@pytest.fixture
async def reporter(bus):
    reporter = Reporter("web", rooms=lambda: ["lobby", "lab"], queues=queue_of_seven)
    await reporter.start()
    yield reporter
    await reporter.stop()


async def queue_of_seven():
    return {"chat.ingest": 7}


async def until(answer, seconds=5.0):
    """Asks until the answer is true, and returns it."""
    async with asyncio.timeout(seconds):
        while not (told := await answer()):
            await asyncio.sleep(0.02)
    return told


async def only():
    processes = await read_processes()
    return processes.reports[0] if processes.reports else None


async def write(bus, report, age=0.0):
    seconds, micros = await bus.client(redis_keys.reports()).time()
    entry = f"{seconds + micros / 1e6 - age:.6f} ".encode() + report.pack()
    await bus.client(redis_keys.reports()).hset(redis_keys.reports(), report.process, entry)


def report(process="other:web@1:1-a", **told):
    ours = {"node": "other", "unit": "web@1", "kind": "web", "version": "0.1.0", "started": 1.0}
    return Report(process=process, **{**ours, **told})


async def test_a_new_process_is_visible_within_two_seconds(bus):
    reporter = Reporter("worker")
    begun = time.monotonic()
    await reporter.start()
    told = await until(only)
    assert time.monotonic() - begun < 2
    assert (told.process, told.node, told.unit, told.kind) == (redis_keys.process_name(), "test", "tests", "worker")
    assert state(told) == "well"
    await reporter.stop()


async def test_a_report_tells_what_the_process_is_and_does(reporter):
    told = await until(only)
    assert told.rooms == 2
    assert told.room_marks == mark_of("lobby") + mark_of("lab")
    assert told.queues == {"chat.ingest": 7}
    assert 5 < told.memory_mb < 2000
    assert abs(told.started - time.time()) < 5
    assert told.age_s < 2


async def test_rates_are_what_was_added_in_a_second(reporter):
    await until(only)
    counters.delivered += 500

    async def told():
        return (await only()).rates["delivered"] > 0 and await only()

    assert (await until(told)).rates["delivered"] == pytest.approx(500, rel=0.3)

    async def quiet():
        return (await only()).rates["delivered"] == 0

    await until(quiet)


async def test_times_to_store_are_counted_in_a_window(reporter):
    hours = 7200.0  # which nothing else took that this process has stored
    observe("store", hours)
    observe("store", hours)

    async def counted():
        report = await only()
        return report and report.stored_in.get(bucket(hours)) == 2

    await until(counted)


async def test_it_goes_on_reporting(reporter):
    first = await until(only)
    counters.accepted += 1

    async def newer():
        return (await only()).totals["accepted"] > first.totals["accepted"]

    await until(newer)


async def test_a_process_that_stops_is_gone_at_once(bus):
    reporter = Reporter("web")
    await reporter.start()
    await until(only)
    await reporter.stop()
    assert (await read_processes()).reports == []


async def test_a_process_that_drains_says_so(reporter, monkeypatch):
    monkeypatch.setattr(counters, "draining", True)

    async def draining():
        told = await only()
        return told and state(told) == "draining"

    await until(draining)


async def test_a_loop_that_was_late_is_told(reporter):
    await until(only)
    time.sleep(0.4)  # noqa: ASYNC251 - the event loop is what is to be late

    async def late():
        return (await only()).lag_ms

    async def lagging():
        return await late() > 250

    await until(lagging)


async def test_ages_are_by_the_clock_of_redis(bus):
    await write(bus, report(), age=5)
    told = await only()
    assert told.age_s == pytest.approx(5, abs=0.5)
    assert state(told) == "stale"


async def test_a_dead_process_is_not_among_the_living(bus):
    await write(bus, report(), age=process_reports.DEAD_SECONDS + 1)
    assert (await read_processes()).reports == []


async def test_what_is_long_dead_is_forgotten(bus):
    await write(bus, report("old"), age=61)
    await write(bus, report("young"), age=0)
    await read_processes()
    assert await bus.client(redis_keys.reports()).hkeys(redis_keys.reports()) == [b"young"]


async def test_a_report_of_another_version_is_read_as_far_as_it_is_known(bus):
    import msgpack

    told = msgpack.unpackb(report().pack(), strict_map_key=False)
    told["news"] = 1
    del told["queues"], told["memory_mb"]
    seconds, _ = await bus.client(redis_keys.reports()).time()
    await bus.client(redis_keys.reports()).hset(
        redis_keys.reports(), "other", f"{seconds} ".encode() + msgpack.packb(told)
    )
    found = await only()
    assert found.node == "other"
    assert found.queues == {}


@pytest.mark.parametrize("entry", [b"", b"1", b"x y", b"9999999999 \xc1", b"9999999999 \x01", b"9999999999 \x80"])
async def test_what_is_no_report_disturbs_nobody(bus, entry):
    await bus.client(redis_keys.reports()).hset(redis_keys.reports(), "broken", entry)
    await write(bus, report())
    assert [told.node for told in (await read_processes()).reports] == ["other"]


async def test_it_reports_again_when_redis_is_back(new_redis, settings):
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url, "socket_timeout": 2, "socket_connect_timeout": 2}]
    reporter = Reporter("web")
    await reporter.start()
    await until(only)
    server.stop()
    with pytest.raises((OSError, process_reports.RedisError)):
        await read_processes()
    server.start()

    async def back():
        try:
            return await only()
        except (OSError, process_reports.RedisError):
            return None

    await until(back, 10)
    await reporter.stop()
    await Bus.current().stop()


async def test_a_frozen_redis_holds_up_neither_reader_nor_stop(new_redis, settings):
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url, "socket_timeout": 15, "socket_connect_timeout": 5}]
    reporter = Reporter("web")
    await reporter.start()
    await until(only)
    server.freeze()
    begun = time.monotonic()
    with pytest.raises(OSError):
        await read_processes()
    await reporter.stop()
    assert time.monotonic() - begun < 8
    server.thaw()
    await Bus.current().stop()


async def test_a_queue_that_cannot_be_asked_does_not_silence_the_process(bus):
    async def away():
        raise process_reports.RedisError("away")

    reporter = Reporter("web", queues=away)
    await reporter.start()
    assert (await until(only)).queues == {}
    await reporter.stop()


async def test_a_unit_that_was_killed_and_started_again_is_one_process(bus):
    await write(bus, report("killed", started=100.0), age=5)
    await write(bus, report("again", started=200.0))
    await write(bus, report("elsewhere", started=50.0, node="third"), age=5)
    assert {told.process for told in (await read_processes()).reports} == {"again", "elsewhere"}


async def test_two_that_live_are_two_whatever_they_are_called(bus):
    await write(bus, report("one", started=100.0))
    await write(bus, report("two", started=200.0))
    assert len((await read_processes()).reports) == 2
