"""docs/protocol.md names all figures, its example client works, and the server keeps its rules."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.local import Installation, installation

from channelbox.dashboard.series import NODE, TOTALS
from channelbox.realtime.errors import INVALID_FORMAT

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(tmp_path) as local:
        yield local


def example_client() -> Any:
    """Return the example client of the document."""
    (source,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(source, "docs/protocol.md", "exec"), names)
    return names["talk"]


def test_document_has_the_invalid_format_error_and_every_figure() -> None:
    for word in (INVALID_FORMAT, *TOTALS, *NODE):
        assert f"`{word}`" in DOCUMENT


async def test_example_client_receives_all_events_once_despite_crashes(local: Installation) -> None:
    received: list[dict[str, Any]] = []

    async def lines() -> AsyncIterator[str]:
        for number in range(60):
            yield f"{number}"
            if number in (20, 40):
                for child in local.web:
                    await local.kill(child)
            await asyncio.sleep(0.05)

    guest = {"additional_headers": {"Cookie": await guest_cookie(local)}, "proxy": None}
    url = local.url.replace("http", "ws") + "/ws/chat/documented/"
    async with asyncio.timeout(60):
        assert await example_client()(url, lines(), received.append, **guest) == []
    assert [event["message"] for event in received] == [f"{number}" for number in range(60)]
    assert [event["seq"] for event in received] == list(range(1, 61))


async def test_ids_and_numbers_are_validated_as_documented(local: Installation) -> None:
    async with await local.enter("limits") as person, await local.enter("limits") as other:
        for each in (person, other):  # ids belong to their sender
            await each.say("a space", id=" ")
            await each.first(type="message", id=" ", user=(await each.first(type="welcome"))["you"])
        await person.say("none", id=None)
        assert (await person.first(type="message", message="none"))["id"]
        for id in (5, True, "", "x" * 65, "\n"):
            person.frames.clear()
            await person.say("refused", id=id)
            assert "id" not in await person.first(code="bad_id")
        for seq in (0, -1, 10**30, 1.5, "17", None):
            person.frames.clear()
            await person.send({"type": "delete", "seq": seq, "id": f"delete {seq}"})
            assert (await person.first(id=f"delete {seq}"))["error"] == INVALID_FORMAT
        await person.send({"type": "delete", "seq": 2**63 - 1, "id": "far"})
        await person.first(id="far", code="no_message")


async def test_an_invalid_after_is_ignored(local: Installation) -> None:
    async with await local.enter("after") as person:
        await person.say("hi")
        await person.wait_for("hi")
    for after in ("", "x", "-1", "1.5", "9" * 19, "%00"):
        async with await local.open(f"/ws/chat/after/?after={after}") as again:
            assert (await again.first(type="welcome"))["resumed"] is False
            await again.wait_for("hi")


async def test_presence_counts_people_and_not_connections(local: Installation) -> None:
    guest: dict[str, Any] = {"additional_headers": {"Cookie": await guest_cookie(local)}}
    async with await local.enter("twice", **guest) as first, await local.enter("twice", **guest):
        await first.first(type="presence", count=1)
        async with await local.enter("twice"):
            await first.first(type="presence", count=2)
        assert {frame["count"] for frame in first.frames if frame["type"] == "presence"} == {1, 2}


async def guest_cookie(local: Installation) -> str:
    """Return the session cookie that a page gives a guest, as documented."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(local.url.rpartition(":")[2]))
    writer.write(b"GET /chat/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    (cookie,) = re.findall(r"(?i)^set-cookie: (channelbox_session=[^;]+)", answer, re.MULTILINE)
    return str(cookie)
