"""Process reports, written to a real Redis and read from it."""

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


async def until(call, seconds=5.0):
    """Repeat the call until its result is true, and return that result."""
    async with asyncio.timeout(seconds):
        while not (result := await call()):
            await asyncio.sleep(0.02)
    return result


async def only_report():
    processes = await read_processes()
    return processes.reports[0] if processes.reports else None


async def write(bus, report, age=0.0):
    seconds, micros = await bus.client(redis_keys.reports()).time()
    entry = f"{seconds + micros / 1e6 - age:.6f} ".encode() + report.pack()
    await bus.client(redis_keys.reports()).hset(redis_keys.reports(), report.process, entry)


def report(process="other:web@1:1-a", **fields):
    defaults = {"node": "other", "unit": "web@1", "kind": "web", "version": "0.1.0", "started": 1.0}
    return Report(process=process, **{**defaults, **fields})


async def test_a_new_process_is_visible_within_two_seconds(bus):
    reporter = Reporter("worker")
    begun = time.monotonic()
    await reporter.start()
    found = await until(only_report)
    assert time.monotonic() - begun < 2
    assert (found.process, found.node, found.unit, found.kind) == (redis_keys.process_name(), "test", "tests", "worker")
    assert state(found) == "well"
    await reporter.stop()


async def test_a_report_contains_rooms_queues_memory_and_start_time(reporter):
    found = await until(only_report)
    assert found.rooms == 2
    assert found.room_marks == mark_of("lobby") + mark_of("lab")
    assert found.queues == {"chat.ingest": 7}
    assert 5 < found.memory_mb < 2000
    assert abs(found.started - time.time()) < 5
    assert found.age_s < 2


async def test_rates_are_the_increase_of_counters_per_second(reporter):
    await until(only_report)
    counters.delivered += 500

    async def with_deliveries():
        return (await only_report()).rates["delivered"] > 0 and await only_report()

    assert (await until(with_deliveries)).rates["delivered"] == pytest.approx(500, rel=0.3)

    async def quiet():
        return (await only_report()).rates["delivered"] == 0

    await until(quiet)


async def test_a_report_counts_store_durations_by_bucket(reporter):
    hours = 7200.0  # longer than anything else that this process has stored
    observe("store", hours)
    observe("store", hours)

    async def counted():
        report = await only_report()
        return report and report.stored_in.get(bucket(hours)) == 2

    await until(counted)


async def test_a_reporter_keeps_updating_its_report(reporter):
    first = await until(only_report)
    counters.accepted += 1

    async def newer():
        return (await only_report()).totals["accepted"] > first.totals["accepted"]

    await until(newer)


async def test_the_report_of_a_stopped_process_is_removed_immediately(bus):
    reporter = Reporter("web")
    await reporter.start()
    await until(only_report)
    await reporter.stop()
    assert (await read_processes()).reports == []


async def test_a_draining_process_is_reported_as_draining(reporter, monkeypatch):
    monkeypatch.setattr(counters, "draining", True)

    async def draining():
        found = await only_report()
        return found and state(found) == "draining"

    await until(draining)


async def test_a_blocked_event_loop_is_reported_as_lag(reporter):
    await until(only_report)
    time.sleep(0.4)  # noqa: ASYNC251 - the event loop is blocked on purpose, for longer than the lag asserted below

    async def late():
        return (await only_report()).lag_ms

    async def lagging():
        return await late() > 250

    await until(lagging)


async def test_the_age_of_a_report_is_measured_by_the_redis_clock(bus):
    await write(bus, report(), age=5)
    found = await only_report()
    assert found.age_s == pytest.approx(5, abs=0.5)
    assert state(found) == "stale"


async def test_a_dead_process_is_not_listed(bus):
    await write(bus, report(), age=process_reports.DEAD_SECONDS + 1)
    assert (await read_processes()).reports == []


async def test_reports_of_long_dead_processes_are_deleted(bus):
    await write(bus, report("old"), age=61)
    await write(bus, report("young"), age=0)
    await read_processes()
    assert await bus.client(redis_keys.reports()).hkeys(redis_keys.reports()) == [b"young"]


async def test_unknown_and_missing_fields_of_a_report_are_tolerated(bus):
    import msgpack

    fields = msgpack.unpackb(report().pack(), strict_map_key=False)
    fields["news"] = 1
    del fields["queues"], fields["memory_mb"]
    seconds, _ = await bus.client(redis_keys.reports()).time()
    await bus.client(redis_keys.reports()).hset(
        redis_keys.reports(), "other", f"{seconds} ".encode() + msgpack.packb(fields)
    )
    found = await only_report()
    assert found.node == "other"
    assert found.queues == {}


@pytest.mark.parametrize("entry", [b"", b"1", b"x y", b"9999999999 \xc1", b"9999999999 \x01", b"9999999999 \x80"])
async def test_invalid_reports_are_ignored(bus, entry):
    await bus.client(redis_keys.reports()).hset(redis_keys.reports(), "broken", entry)
    await write(bus, report())
    assert [found.node for found in (await read_processes()).reports] == ["other"]


async def test_reporting_resumes_after_a_redis_outage(new_redis, settings):
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url, "socket_timeout": 2, "socket_connect_timeout": 2}]
    reporter = Reporter("web")
    await reporter.start()
    await until(only_report)
    server.stop()
    with pytest.raises((OSError, process_reports.RedisError)):
        await read_processes()
    server.start()

    async def back():
        try:
            return await only_report()
        except (OSError, process_reports.RedisError):
            return None

    await until(back, 10)
    await reporter.stop()
    await Bus.current().stop()


async def test_a_frozen_redis_blocks_neither_reading_nor_stopping(new_redis, settings):
    server = new_redis()
    settings.CHANNELBOX_REDIS_HOSTS = [{"address": server.url, "socket_timeout": 15, "socket_connect_timeout": 5}]
    reporter = Reporter("web")
    await reporter.start()
    await until(only_report)
    server.freeze()
    begun = time.monotonic()
    with pytest.raises(OSError):
        await read_processes()
    await reporter.stop()
    assert time.monotonic() - begun < 8
    server.thaw()
    await Bus.current().stop()


async def test_a_process_reports_even_if_queue_lengths_are_unavailable(bus):
    async def away():
        raise process_reports.RedisError("away")

    reporter = Reporter("web", queues=away)
    await reporter.start()
    assert (await until(only_report)).queues == {}
    await reporter.stop()


async def test_a_unit_that_was_killed_and_restarted_is_listed_once(bus):
    await write(bus, report("killed", started=100.0), age=5)
    await write(bus, report("again", started=200.0))
    await write(bus, report("elsewhere", started=50.0, node="third"), age=5)
    assert {found.process for found in (await read_processes()).reports} == {"again", "elsewhere"}


async def test_two_live_processes_of_the_same_unit_are_both_listed(bus):
    await write(bus, report("one", started=100.0))
    await write(bus, report("two", started=200.0))
    assert len((await read_processes()).reports) == 2
