"""The dashboard and `channelbox status`, with real processes."""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.local import FRAME_SECONDS, Installation, Person, installation
from tests.support.waiting import until

from channelbox.cli.errors import CliError
from channelbox.cli.supervisor import SupervisedProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(folder: Path) -> AsyncIterator[Installation]:
    """The installation that all tests here share, with its own Redis. Each test leaves it as it was."""
    async with installation(folder, variables={"CHANNELBOX_DRAIN_SECONDS": "3"}) as local:
        yield local


async def open_dashboard(local: Installation, child: SupervisedProcess) -> Person:
    """Open the dashboard at this web process."""
    others = [each for each in local.web if each is not child]
    for each in others:
        each.signal(signal.SIGSTOP)
    try:
        viewer = await local.open("/ws/dashboard/")
        await viewer.first(type="welcome")
        return viewer
    finally:
        for each in others:
            each.signal(signal.SIGCONT)


def updates(viewer: Person) -> list[dict[str, Any]]:
    return [frame["data"] for frame in viewer.frames if "data" in frame]


def newest(viewer: Person) -> dict[str, Any]:
    return updates(viewer)[-1] if updates(viewer) else {"totals": {}, "nodes": {}, "processes": []}


def states(viewer: Person) -> dict[str, str]:
    return {process["unit"]: process["state"] for process in newest(viewer)["processes"]}


async def test_dashboard_shows_all_processes_and_chat_figures(local: Installation) -> None:
    async with (
        await open_dashboard(local, local.web[0]) as viewer,
        await local.enter_at(local.web[0]) as alice,
        await local.enter_at(local.web[1]) as bob,
        await local.enter_at(local.web[1], "elsewhere"),
    ):
        await viewer.until(lambda: states(viewer) == dict.fromkeys(("web@1", "web@2", "worker@1"), "well"))
        # A connection counts from its accept, a room from the first join.
        await viewer.until(lambda: [newest(viewer)["totals"][name] for name in ("connections", "rooms")] == [4, 2])
        for n in range(20):
            await alice.say(f"{n}")
        await bob.wait_for("19")
        await viewer.until(
            lambda: sum(data["totals"]["messages_per_s"] for data in updates(viewer)) == pytest.approx(20, 0.3)
        )
        await viewer.until(lambda: newest(viewer)["totals"]["store_p50_ms"] is not None)
        await viewer.until(lambda: newest(viewer)["totals"]["queue"] == 0)


async def test_any_frame_triggers_an_update_for_all_clients(local: Installation) -> None:
    async with await open_dashboard(local, local.web[0]) as sender, await open_dashboard(local, local.web[1]) as other:
        started, before = time.monotonic(), len(updates(other))

        def updated(times: int) -> bool:
            return len(updates(other)) >= before + times

        for n in range(1, 11):
            await sender.send({"any": "frame"})
            await other.until(partial(updated, n))
        # Without these frames, ten updates take ten seconds.
        assert time.monotonic() - started < 7
        await sender.until(lambda: len(updates(sender)) >= 10)


async def test_a_new_process_is_shown_within_two_seconds(local: Installation) -> None:
    async with await open_dashboard(local, local.web[0]) as viewer:
        await viewer.until(lambda: "worker@1" in states(viewer))
        await local.workers[0].stop()
        await viewer.until(lambda: "worker@1" not in states(viewer), 2)
        await local.workers[0].start()
        await viewer.until(lambda: states(viewer).get("worker@1") == "well", 2)


async def test_a_frozen_process_is_stale_and_listed_first(local: Installation) -> None:
    async with await open_dashboard(local, local.web[0]) as viewer:
        await viewer.until(lambda: "web@2" in states(viewer))
        local.web[1].signal(signal.SIGSTOP)
        await viewer.until(lambda: states(viewer)["web@2"] == "stale", 6)
        assert newest(viewer)["processes"][0]["unit"] == "web@2"
        local.web[1].signal(signal.SIGCONT)
        await viewer.until(lambda: states(viewer)["web@2"] in ("well", "lagging"), 3)


async def test_a_stopping_process_is_draining_and_then_removed(local: Installation) -> None:
    async with contextlib.AsyncExitStack() as stack:
        viewer = await stack.enter_async_context(await open_dashboard(local, local.web[0]))
        for _ in range(10):
            await stack.enter_async_context(await open_dashboard(local, local.web[1]))
        stopping = asyncio.create_task(local.web[1].stop())
        await viewer.until(lambda: states(viewer).get("web@2") == "draining", 3)
        await viewer.until(lambda: "web@2" not in states(viewer), 6)
        await stopping
        await local.web[1].start()


async def test_series_has_no_gap_when_processes_are_killed(local: Installation) -> None:
    async with await open_dashboard(local, local.web[0]) as viewer:
        await viewer.until(lambda: len(updates(viewer)) > 2)
    await local.kill(local.workers[0])
    await local.kill(local.web[1])
    async with await open_dashboard(local, local.web[0]) as viewer:
        series = (await viewer.first(type="welcome"))["series"]
        assert series["at"] == list(range(series["at"][0], series["at"][0] + len(series["at"])))
        known = [figure for figure in series["totals"]["processes"] if figure is not None]
        assert len(known) >= len(series["at"]) - 2


async def test_a_flood_of_frames_does_not_flood_other_clients(local: Installation) -> None:
    async with await open_dashboard(local, local.web[0]) as flooder, await open_dashboard(local, local.web[1]) as other:
        before, started = len(updates(other)), time.monotonic()
        for _ in range(2000):
            await flooder.connection.send("{}")
        await flooder.until(lambda: len(updates(flooder)) > before + 1)
        await asyncio.sleep(1)
        assert len(updates(other)) - before <= (time.monotonic() - started) * 11 + 2
        assert set(states(other).values()) <= {"well", "lagging"}


@pytest.mark.parametrize(
    ("frame", "close"),
    [("x" * 65_537, 1009), ("x" * 1_048_576, 1009), (b"\x00\x01", 1003)],
    ids=["64K", "1M", "binary"],
)
async def test_unreadable_frames_close_the_connection_with_their_code(
    local: Installation, frame: str | bytes, close: int
) -> None:
    async with await local.open("/ws/dashboard/") as viewer, await local.open("/ws/dashboard/") as other:
        await viewer.first(type="welcome")
        await viewer.connection.send(frame)
        assert await viewer.closed() == close
        seen = len(updates(other))
        await other.until(lambda: len(updates(other)) > seen)


async def test_a_foreign_origin_is_refused(local: Installation) -> None:
    async with await local.open("/ws/dashboard/", origin="https://elsewhere.example") as viewer:
        assert await viewer.closed(FRAME_SECONDS) == 4003
        assert viewer.errors[0]["code"] == "origin"
        assert updates(viewer) == []


async def test_status_lists_every_process(local: Installation) -> None:
    async def all_listed() -> bool:
        shown = json.loads(await local.run("status", "--json"))
        return {process["unit"] for process in shown} == {"web@1", "web@2", "worker@1"}

    await until(all_listed)
    shown = json.loads(await local.run("status", "--json"))
    assert {"node", "unit", "kind", "version", "state", "connections"} <= set(shown[0])
    table = await local.run("status")
    assert "web@2" in table
    assert "Processes 3 · nodes 1" in table


async def test_status_without_redis_fails_with_the_reason(local: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(local.environment, "CHANNELBOX_REDIS_URL", "unix:///nowhere/redis.sock")
    with pytest.raises(CliError, match=r"status 1:\s+channelbox: Redis does not respond: .*nowhere"):
        await local.run("status", "--json")
