"""Hostile input on both WebSockets gets its error or close code, and does not affect other clients."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.hostile import KIB, MESSAGE_MAX, ROOM, SOCKETS, others_unaffected, still_works, strict  # noqa: F401 - a fixture
from tests.integration.local import Installation, Person
from tests.realtime.serving import UPGRADE, masked

from channelbox.realtime.errors import INVALID_FORMAT, Close, Code
from channelbox.realtime.frame_reader import CLOSE, TEXT

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRAME_MAX = 64 * KIB


@pytest_asyncio.fixture(loop_scope="module")
async def charlie(local: Installation) -> AsyncIterator[Person]:
    """A hostile client in a room with two others, which must not be affected."""
    async with others_unaffected(local), await local.enter(ROOM, origin=local.url) as charlie:
        yield charlie


MALFORMED = {
    "empty": "",
    "not JSON": "hello",
    "truncated JSON": '{"message": "hi"',
    "a list": '["hi"]',
    "null": "null",
    "a number": "17",
    "a string": '"hi"',
    "no message": "{}",
    "a number for a message": '{"message": 5}',
    "null for a message": '{"message": null}',
    "true for a message": '{"message": true}',
    "a list for a message": '{"message": ["hi"]}',
    "an object for a message": '{"message": {"text": "hi"}}',
    "NaN": '{"message": NaN}',
    "infinity": '{"message": 1e999}',
    "an endless number": "1" * 10_000,
    "an unknown type": '{"type": "shutdown", "message": "hi"}',
    "a private type": '{"type": "_leave"}',
    "a method name as type": '{"type": "websocket.disconnect"}',
    "an object for a type": '{"type": {}, "message": "hi"}',
    "null for a type": '{"type": null, "message": "hi"}',
    "deep lists, truncated": "[" * 50_000,
    "deep lists": "[" * 30_000 + "]" * 30_000,
    "deep objects": '{"message":' * 5_000 + "1" + "}" * 5_000,
    "a deep list for a message": '{"message": ' + "[" * 20_000 + "]" * 20_000 + "}",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_frames_get_the_tutorials_error_message(charlie: Person, text: str) -> None:
    await charlie.connection.send(text)
    error = await charlie.first(error=INVALID_FORMAT)
    assert error["code"] == Code.INVALID
    await still_works(charlie)


def deep(levels: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(levels):
        inner = [inner]
    return inner


REFUSED: dict[str, tuple[dict[str, Any], Code]] = {
    "empty": ({"message": ""}, Code.EMPTY),
    "white space": ({"message": " \n\t\u2003"}, Code.EMPTY),
    "a NUL": ({"message": "a\x00b"}, Code.INVALID),
    "an escape sequence": ({"message": "\x1b[31mred"}, Code.INVALID),
    "a C1 control": ({"message": "\x9b31mred"}, Code.INVALID),
    "a delete": ({"message": "\x7f"}, Code.INVALID),
    "a lone high surrogate": ({"message": "\ud83d"}, Code.INVALID),
    "a lone low surrogate": ({"message": "a\udc00b"}, Code.INVALID),
    "one character too many": ({"message": "x" * (MESSAGE_MAX + 1), "id": "long"}, Code.TOO_LONG),
    "nearly as long as a frame": ({"message": "x" * (FRAME_MAX - 100), "id": "long"}, Code.TOO_LONG),
    "an empty id": ({"message": "hi", "id": ""}, Code.BAD_ID),
    "a long id": ({"message": "hi", "id": "x" * 65}, Code.BAD_ID),
    "a number for an id": ({"message": "hi", "id": 17}, Code.BAD_ID),
    "a list for an id": ({"message": "hi", "id": ["x"]}, Code.BAD_ID),
    "a deep list for an id": ({"message": "hi", "id": deep(900)}, Code.BAD_ID),
    "a line break in an id": ({"message": "hi", "id": "a\nb"}, Code.BAD_ID),
    "a NUL in an id": ({"message": "hi", "id": "a\x00b"}, Code.BAD_ID),
    "a surrogate in an id": ({"message": "hi", "id": "\ud800"}, Code.BAD_ID),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=REFUSED)
async def test_invalid_messages_are_refused_with_a_code(charlie: Person, content: dict[str, Any], code: Code) -> None:
    await charlie.send(content)
    error = await charlie.first(code=code)
    assert error["error"]
    if code == Code.TOO_LONG:
        assert error["id"] == "long"
    await still_works(charlie)
    assert len(charlie.errors) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "{{ settings.SECRET_KEY }} %s %(x)s {0}",
        "'; DROP TABLE chat_event; --",
        "\u202egnirts a \u2066isolate",
        "🙂" * MESSAGE_MAX,
        "e\u0301\u200d\ufeff\ufffe\U0010ffff",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["markup", "templates", "SQL", "text direction", "the longest", "odd characters", "line breaks"],
)
async def test_text_is_delivered_unchanged(charlie: Person, text: str) -> None:
    await charlie.say(text)
    await charlie.wait_for(text)


async def test_extra_fields_do_not_change_a_message(charlie: Person) -> None:
    you = (await charlie.first(type="welcome"))["you"]
    text = os.urandom(8).hex()
    await charlie.say(
        text, user="admin", seq=1, at="1970-01-01T00:00:00Z", sender="u:1", room="elsewhere", name="admin"
    )
    await charlie.wait_for(text)
    message = await charlie.first(message=text)
    assert message["user"] == you
    assert message["seq"] > (await charlie.first(type="welcome"))["seq"]
    assert message["at"] > "2020"


# --- Frames that end the connection


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x00\xff\xfe", Close.UNSUPPORTED),
        (b'{"message": "hi"}', Close.UNSUPPORTED),
        (b"", Close.UNSUPPORTED),
        (b"x" * FRAME_MAX, Close.UNSUPPORTED),
        ("x" * (FRAME_MAX + 1), Close.TOO_BIG),
        ("x" * KIB * KIB, Close.TOO_BIG),
        (b"x" * KIB * KIB, Close.TOO_BIG),
        (["x" * 40 * KIB, "y" * 40 * KIB], Close.TOO_BIG),
    ],
    ids=["binary", "binary JSON", "empty binary", "64 KiB binary", "over 64 KiB", "1 MiB", "1 MiB binary", "in parts"],
)
async def test_oversized_and_binary_frames_close_only_their_connection(
    local: Installation, path: str, frame: Any, code: Close
) -> None:
    async with others_unaffected(local), await local.open(path, origin=local.url) as charlie:
        await charlie.first(type="welcome")
        await charlie.connection.send(frame)
        assert await charlie.closed() == code
        if code == Close.UNSUPPORTED:
            assert charlie.errors[0]["code"] == Code.INVALID


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_frame_of_exactly_64_kib_is_read(local: Installation, path: str) -> None:
    async with others_unaffected(local), await local.open(path, origin=local.url) as charlie:
        await charlie.first(type="welcome")
        await charlie.connection.send("x" * FRAME_MAX)
        await charlie.first(error=INVALID_FORMAT)


RAW = {
    "not UTF-8": (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    "not masked": (b"\x81\x02hi", 1002),
    "an unknown opcode": (b"\x83\x80\0\0\0\0", 1002),
    "a reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "a continuation without a start": (b"\x80\x80\0\0\0\0", 1002),
    "a length of 2^63": (b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1009),
    "a long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
}


@pytest.mark.parametrize(("frames", "code"), RAW.values(), ids=RAW)
async def test_invalid_websocket_frames_close_only_their_connection(
    local: Installation, frames: bytes, code: int
) -> None:
    async with others_unaffected(local):
        reader, writer = await local.handshake(SOCKETS[0])
        writer.write(frames + masked(CLOSE, code.to_bytes(2)))
        end = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    # The last frame is a Close, with its code.
    assert b"\x88" in end
    assert code.to_bytes(2) in end[end.rindex(b"\x88") :]


async def test_a_close_between_fragments_is_answered(local: Installation) -> None:
    async with others_unaffected(local):
        reader, writer = await local.handshake(SOCKETS[0])
        writer.write(masked(TEXT, b"{", first=0) + masked(CLOSE, b"\x03\xe8"))
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"\x88\x02\x03\xe8")
        writer.close()


async def test_a_handshake_with_a_body_is_refused(local: Installation) -> None:
    async with others_unaffected(local):
        reader, writer = await asyncio.open_connection(*local.url.removeprefix("http://").split(":"))
        writer.write(UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"))
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        writer.close()


async def test_aborted_connections_leave_no_presence(local: Installation) -> None:
    async with others_unaffected(local):
        for part in (b"", b"\x81", b"\x81\xfe\xff\xff", b"\x81\x92\0\0\0\0{", b"\x01\x82\0\0\0\0hi"):
            _, writer = await local.handshake(SOCKETS[0])
            writer.write(part)
            writer.transport.abort()
        async with await local.enter(ROOM, origin=local.url) as person:
            # The two others and this one; the aborted ones are gone.
            await person.first(type="presence", count=3)


# --- Refused connections


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "origin",
    [
        None,
        "https://evil.example",
        "null",
        "{url}.evil.example",
        "{url}0",
        "https{url_without_scheme}",
        "{url}/",
        "http://localhost",
        "",
    ],
)
async def test_foreign_origins_are_refused(local: Installation, path: str, origin: str | None) -> None:
    if origin is not None:
        origin = origin.format(url=local.url, url_without_scheme=local.url.removeprefix("http"))
    async with others_unaffected(local), await local.open(path, origin=origin) as charlie:
        assert await charlie.closed() == Close.NOT_ALLOWED
        assert [frame["code"] for frame in charlie.frames] == [Code.ORIGIN]


@pytest.mark.parametrize(
    "path",
    [
        "/ws/chat/no-such-room/",
        "/ws/chat/" + "x" * 80 + "/",
        "/ws/chat/" + "x" * 81 + "/",
        "/ws/chat//",
        "/ws/chat/a%20b/",
        "/ws/chat/%C3%A4/",
        "/ws/chat/%ff%fe/",
        "/ws/chat/a%00b/",
        "/ws/chat/a%0a/",
        "/ws/chat/../dashboard/",
        "/ws/chat/a/b/",
        "/ws/chat/hello",
        "/ws/",
        "/",
        "/chat/",
        "/ws/dashboard/x",
        "/ws/chat/'%20OR%201=1--/",
    ],
)
async def test_unknown_paths_are_closed_with_no_room(local: Installation, path: str) -> None:
    async with others_unaffected(local), await local.open(path, origin=local.url) as charlie:
        assert await charlie.closed() == Close.NOT_ALLOWED
        assert [frame["code"] for frame in charlie.frames] == [Code.NO_ROOM]


@pytest.mark.parametrize(
    "after", ["x", "-1", "1.5", "", "9" * 18, "9223372036854775807", "9" * 400, "%00", "%ff", "1&after=x", "٣", "0x10"]
)
async def test_any_value_of_after_is_accepted(local: Installation, after: str) -> None:
    async with (
        others_unaffected(local),
        await local.open(f"/ws/chat/{ROOM}/?after={after}", origin=local.url) as charlie,
    ):
        await charlie.first(type="welcome")
        await still_works(charlie)
