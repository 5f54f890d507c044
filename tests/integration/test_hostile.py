"""Hostile input, on both sockets and the pages: each is answered with its error or close code, nobody else notices."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.local import Installation, Person, installation

from channelbox.realtime.codes import INVALID_FORMAT, Close, Code

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = "hello"
KIB = 1024
FRAME_MAX = 64 * KIB
MESSAGE_MAX = 4000
BURST = 60
SOCKETS = [f"/ws/chat/{ROOM}/", "/ws/dashboard/"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    """As strict as production: no socket without Origin, and a guest makes no room."""
    variables = {"CHANNELBOX_ORIGIN_REQUIRED": "true", "CHANNELBOX_ROOM_CREATION": "users"}
    async with installation(tmp_path_factory.mktemp("hostile"), variables=variables) as local:
        await local.run(
            "manage", "shell", "-c", f"from channelbox.chat.models import *; Room.objects.create(name='{ROOM}')"
        )
        yield local


@asynccontextmanager
async def undisturbed(local: Installation) -> AsyncIterator[None]:
    """Two people who talk before and after, at different processes, and hear each other and no error."""
    async with (
        await local.enter_at(local.web[0], ROOM, origin=local.url) as ann,
        await local.enter_at(local.web[1], ROOM, origin=local.url) as bob,
    ):
        yield
        await ann.say(text := os.urandom(8).hex())
        for person in (ann, bob):
            await person.hears(text)
            person.check_sequence()
            assert person.errors == []


@pytest_asyncio.fixture(loop_scope="module")
async def eve(local: Installation) -> AsyncIterator[Person]:
    """Somebody in the room who means ill, while others are there."""
    async with undisturbed(local), await local.enter(ROOM, origin=local.url) as eve:
        yield eve


async def still_works(person: Person) -> None:
    await person.say(text := os.urandom(8).hex())
    await person.hears(text)


NOT_THE_FORMAT = {
    "nothing": "",
    "not JSON": "hello",
    "half of it": '{"message": "hi"',
    "a list": '["hi"]',
    "null": "null",
    "a number": "17",
    "a string": '"hi"',
    "no message": "{}",
    "a number for a message": '{"message": 5}',
    "null for a message": '{"message": null}',
    "true for a message": '{"message": true}',
    "a list for a message": '{"message": ["hi"]}',
    "a map for a message": '{"message": {"text": "hi"}}',
    "not a number": '{"message": NaN}',
    "infinity": '{"message": 1e999}',
    "an endless number": "1" * 10_000,
    "an unheard type": '{"type": "shutdown", "message": "hi"}',
    "a private type": '{"type": "_leave"}',
    "a method's name for a type": '{"type": "websocket.disconnect"}',
    "a map for a type": '{"type": {}, "message": "hi"}',
    "null for a type": '{"type": null, "message": "hi"}',
    "deep lists": "[" * 50_000,
    "deep lists, closed": "[" * 30_000 + "]" * 30_000,
    "deep maps": '{"message":' * 5_000 + "1" + "}" * 5_000,
    "a deep list for a message": '{"message": ' + "[" * 20_000 + "]" * 20_000 + "}",
}


@pytest.mark.parametrize("text", NOT_THE_FORMAT.values(), ids=NOT_THE_FORMAT)
async def test_what_is_not_the_format_is_told_so_in_the_tutorials_words(eve: Person, text: str) -> None:
    await eve.connection.send(text)
    error = await eve.first(error=INVALID_FORMAT)
    assert error["code"] == Code.INVALID
    await still_works(eve)


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
    "one too many": ({"message": "x" * (MESSAGE_MAX + 1), "id": "long"}, Code.TOO_LONG),
    "nearly a whole frame": ({"message": "x" * (FRAME_MAX - 100), "id": "long"}, Code.TOO_LONG),
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
async def test_a_message_that_cannot_be_is_refused_with_its_reason(
    eve: Person, content: dict[str, Any], code: Code
) -> None:
    await eve.send(content)
    error = await eve.first(code=code)
    assert error["error"]
    if code == Code.TOO_LONG:
        assert error["id"] == "long"
    await still_works(eve)
    assert len(eve.errors) == 1


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
    ids=["markup", "templates", "SQL", "directions", "the longest", "odd characters", "line breaks"],
)
async def test_what_is_only_text_comes_back_as_it_was(eve: Person, text: str) -> None:
    await eve.say(text)
    await eve.hears(text)


async def test_others_fields_change_nothing_of_a_message(eve: Person) -> None:
    you = (await eve.first(type="welcome"))["you"]
    text = os.urandom(8).hex()
    await eve.say(text, user="admin", seq=1, at="1970-01-01T00:00:00Z", sender="u:1", room="elsewhere", name="admin")
    await eve.hears(text)
    message = await eve.first(message=text)
    assert message["user"] == you
    assert message["seq"] > (await eve.first(type="welcome"))["seq"]
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
async def test_a_frame_that_is_too_big_or_binary_ends_its_own_connection(
    local: Installation, path: str, frame: Any, code: Close
) -> None:
    async with undisturbed(local), await local.open(path, origin=local.url) as eve:
        await eve.first(type="welcome")
        await eve.connection.send(frame)
        assert await eve.closed() == code
        if code == Close.UNSUPPORTED:
            assert eve.errors[0]["code"] == Code.INVALID


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_frame_of_exactly_64_kib_is_read(local: Installation, path: str) -> None:
    async with undisturbed(local), await local.open(path, origin=local.url) as eve:
        await eve.first(type="welcome")
        await eve.connection.send("x" * FRAME_MAX)
        await eve.first(error=INVALID_FORMAT)


RAW = {
    "not UTF-8": (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
    "not masked": (b"\x81\x02hi", 1002),
    "an unknown opcode": (b"\x83\x80\0\0\0\0", 1002),
    "a reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "a continuation of nothing": (b"\x80\x80\0\0\0\0", 1002),
    "a length of 2^63": (b"\x81\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1009),
    "a long ping": (b"\x89\xfe\x00\x7e\0\0\0\0" + b"x" * 126, 1002),
}


@pytest.mark.parametrize(("frames", "code"), RAW.values(), ids=RAW)
async def test_what_is_no_websocket_frame_ends_its_own_connection(
    local: Installation, frames: bytes, code: int
) -> None:
    async with undisturbed(local):
        reader, writer = await local.handshake(SOCKETS[0])
        writer.write(frames)
        end = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    # The last frame is a Close, with its code.
    assert b"\x88" in end
    assert code.to_bytes(2) in end[end.rindex(b"\x88") :]


async def test_connections_that_break_off_anywhere_leave_nothing(local: Installation) -> None:
    async with undisturbed(local):
        for part in (b"", b"\x81", b"\x81\xfe\xff\xff", b"\x81\x92\0\0\0\0{", b"\x01\x82\0\0\0\0hi"):
            _, writer = await local.handshake(SOCKETS[0])
            writer.write(part)
            writer.transport.abort()
        async with await local.enter(ROOM, origin=local.url) as person:
            # Two who were there, and this one; those who broke off are gone.
            await person.first(type="presence", count=3)


# --- Who may not come in


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
async def test_a_page_of_elsewhere_gets_no_socket(local: Installation, path: str, origin: str | None) -> None:
    if origin is not None:
        origin = origin.format(url=local.url, url_without_scheme=local.url.removeprefix("http"))
    async with undisturbed(local), await local.open(path, origin=origin) as eve:
        assert await eve.closed() == Close.NOT_ALLOWED
        assert [frame["code"] for frame in eve.frames] == [Code.ORIGIN]


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
async def test_a_socket_that_is_not_there_says_so(local: Installation, path: str) -> None:
    async with undisturbed(local), await local.open(path, origin=local.url) as eve:
        assert await eve.closed() == Close.NOT_ALLOWED
        assert [frame["code"] for frame in eve.frames] == [Code.NO_ROOM]


@pytest.mark.parametrize(
    "after", ["x", "-1", "1.5", "", "9" * 18, "9223372036854775807", "9" * 400, "%00", "%ff", "1&after=x", "٣", "0x10"]
)
async def test_any_after_is_welcome(local: Installation, after: str) -> None:
    async with undisturbed(local), await local.open(f"/ws/chat/{ROOM}/?after={after}", origin=local.url) as eve:
        await eve.first(type="welcome")
        await still_works(eve)


# --- Too much


async def test_of_200_messages_at_once_each_is_answered(local: Installation) -> None:
    async with undisturbed(local), await local.enter(ROOM, origin=local.url) as eve:
        mark = os.urandom(4).hex()
        ids = [f"{mark}-{n}" for n in range(200)]
        for id in ids:
            await eve.say(id, id=id)

        def answered() -> set[str]:
            return {frame["id"] for frame in eve.messages + eve.errors}

        await eve.until(lambda: answered() >= set(ids))
        stored = [frame["id"] for frame in eve.messages if frame["id"].startswith(mark)]
        refused = {frame["id"]: frame for frame in eve.errors}
        assert BURST <= len(stored) < 2 * BURST
        assert stored == [id for id in ids if id in stored]
        assert set(refused) == set(ids) - set(stored)
        assert {frame["code"] for frame in refused.values()} == {Code.TOO_FAST}
        assert all(0 < frame["retry_after"] < 60 for frame in refused.values())


async def test_of_200_broken_frames_at_once_each_is_answered(local: Installation) -> None:
    async with undisturbed(local), await local.enter(ROOM, origin=local.url) as eve:
        for _ in range(200):
            await eve.connection.send("{")
        await eve.until(lambda: len(eve.errors) == 200)
        assert {error["error"] for error in eve.errors} == {INVALID_FORMAT}
        await still_works(eve)


async def test_who_never_heeds_an_error_is_closed(local: Installation) -> None:
    async with undisturbed(local), await local.enter(ROOM, origin=local.url) as eve:
        for _ in range(400):
            await eve.connection.send("{")
        assert await eve.closed() == Close.TOO_MUCH
        assert len(eve.errors) < 400


async def test_200_questions_to_the_dashboard_at_once_are_not_200_answers(local: Installation) -> None:
    async with (
        undisturbed(local),
        await local.open("/ws/dashboard/", origin=local.url) as watcher,
        await local.open("/ws/dashboard/", origin=local.url) as eve,
    ):
        await watcher.first(type="welcome")
        await eve.first(type="welcome")
        for n in range(200):
            await eve.connection.send("{" if n % 2 else "{}")
        await eve.until(lambda: len(eve.errors) == 100)
        await watcher.until(lambda: sum("data" in frame for frame in watcher.frames) >= 2)
        assert watcher.errors == []
        assert sum("data" in frame for frame in watcher.frames) < 50


async def test_who_reads_nothing_does_not_hold_up_others(local: Installation) -> None:
    async with undisturbed(local):
        reader, writer = await local.handshake(SOCKETS[0])
        reader.set_exception(ConnectionError("not read"))
        writer.transport.pause_reading()
        async with await local.enter(ROOM, origin=local.url) as ann:
            for _ in range(20):
                await ann.say("x" * MESSAGE_MAX)
            await ann.until(lambda: ann.heard.count("x" * MESSAGE_MAX) >= 20)
        writer.transport.abort()


# --- Pages


async def exchange(local: Installation, request: bytes) -> bytes:
    """What comes back on a connection of its own until it is closed; the last of it for what is never answered."""
    host, port = local.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 15)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def request(local: Installation, target: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    host = [] if any(header.lower().startswith("host:") for header in headers) else ["Host: 127.0.0.1"]
    lines = [f"{method} {target} HTTP/1.1", *host, "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin1") + body


FORM = "Content-Type: application/x-www-form-urlencoded"
HISTORY = f"/chat/api/rooms/{ROOM}/messages"

PAGES: dict[str, tuple[tuple[Any, ...], dict[str, Any], set[int]]] = {
    "no such page": (("/nothing",), {}, {404}),
    "a way up": (("/static/../../settings.py",), {}, {404}),
    "a hidden way up": (("/static/%2e%2e/%2e%2e/settings.py",), {}, {404}),
    "a NUL": (("/chat/room/a%00b/",), {}, {404}),
    "not UTF-8": (("/chat/room/%ff%fe/",), {}, {404}),
    "broken percents": (("/chat/room/%zz%/",), {}, {404}),
    "a strange room": (("/chat/room/" + "x" * 81 + "/",), {}, {404}),
    "a room in markup": (("/chat/room/<script>/",), {}, {404}),
    "a long target": (("/" + "x" * 60_000,), {}, {400, 404, 414, 431}),
    "a foreign host": (("/chat/", "Host: evil.example"), {}, {400}),
    "a broken host": (("/chat/", "Host: 127.0.0.1:<script>"), {}, {400}),
    "a strange session": (("/chat/", "Cookie: channelbox_session=\xff\xfe'; DROP"), {}, {200}),
    "a long cookie": (("/chat/", "Cookie: channelbox_session=" + "x" * 30_000), {}, {200, 400, 431}),
    "many headers": (("/chat/", *(f"X-{n}: {n}" for n in range(2000))), {}, {200, 400, 431}),
    "history before a word": ((HISTORY + "?before=x",), {}, {400}),
    "history before a negative": ((HISTORY + "?before=-1",), {}, {400}),
    "history before everything": ((HISTORY + "?before=" + "9" * 30,), {}, {400}),
    "history with a NUL": ((HISTORY + "?before=%00",), {}, {400}),
    "history without limits": ((HISTORY + "?limit=999999999999",), {}, {200}),
    "history of nothing": ((HISTORY + "?limit=0",), {}, {200}),
    "history of nowhere": (("/chat/api/rooms/no-such-room/messages",), {}, {403}),
    "history posted to": ((HISTORY,), {"method": "POST"}, {403, 405}),
    "history deleted": ((HISTORY,), {"method": "DELETE"}, {403, 405}),
    "an unknown method": (("/chat/",), {"method": "BREW"}, {400, 405}),
    "a sign-in from elsewhere": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"username=admin&password=x"},
        {403},
    ),
    "a sign-in of 5 MiB": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"x" * 5 * KIB * KIB},
        {400, 403, 413},
    ),
    "a form of 5,000 fields": (
        ("/accounts/login/", FORM),
        {"method": "POST", "body": b"&".join(b"a%d=1" % n for n in range(5000))},
        {400, 403},
    ),
    "a broken multipart": (
        ("/accounts/login/", "Content-Type: multipart/form-data; boundary=x"),
        {"method": "POST", "body": b"--x\r\nnonsense"},
        {400, 403},
    ),
    "a sign-out by link": (("/accounts/logout/",), {}, {405}),
    "a way out after sign-in": (("/accounts/login/?next=https://evil.example/",), {}, {200}),
    "the administration": (("/admin/",), {}, {302}),
    "a socket without an upgrade": ((SOCKETS[0],), {}, {404}),
}


@pytest.mark.parametrize(("arguments", "options", "statuses"), PAGES.values(), ids=PAGES)
async def test_a_strange_request_is_answered_with_its_status(
    local: Installation, arguments: tuple[Any, ...], options: dict[str, Any], statuses: set[int]
) -> None:
    async with undisturbed(local):
        answer = await exchange(local, request(local, *arguments, **options))
        assert int(answer.split(b" ", 2)[1]) in statuses
        assert b"Traceback" not in answer
        assert b"evil.example" not in answer.split(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    "text",
    [
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"GET / HTTP/1.1\r\n no name: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=["words", "a verb", "HTTP 9.9", "TLS", "less than nothing", "two lengths", "broken chunks", "a fold", "a NUL"],
)
async def test_what_is_no_http_is_refused_or_cut_off(local: Installation, text: bytes) -> None:
    async with undisturbed(local):
        answer = await exchange(local, text)
        assert not answer or answer.split(b" ", 2)[1] in (b"400", b"404", b"302")


BROKEN_UPGRADES = {
    "no key": ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
    "a short key": ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"],
    "another version": [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 7",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ],
}


@pytest.mark.parametrize("headers", BROKEN_UPGRADES.values(), ids=BROKEN_UPGRADES)
async def test_a_broken_upgrade_is_refused(local: Installation, headers: list[str]) -> None:
    async with undisturbed(local):
        lines = [f"GET {SOCKETS[0]} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        answer = await exchange(local, "\r\n".join(lines).encode())
        assert answer.split(b" ", 2)[1] in (b"400", b"426")


async def test_what_was_asked_for_with_a_slow_hand_holds_up_nobody(local: Installation) -> None:
    async with undisturbed(local):
        host, port = local.url.removeprefix("http://").split(":")
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        for _, writer in slow:
            writer.write(b"GET /chat/ HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert (await exchange(local, request(local, "/healthz"))).endswith(b"ok\n")
        for _, writer in slow:
            writer.transport.abort()


async def test_no_page_shows_a_message_as_markup(local: Installation) -> None:
    """What is said is in the history as JSON, with a type that no browser takes for a page."""
    text = f"<script>{os.urandom(4).hex()}</script>"
    async with undisturbed(local), await local.enter(ROOM, origin=local.url) as eve:
        await eve.say(text)
        await eve.hears(text)
        answer = await exchange(local, request(local, HISTORY))
        headers, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-type: application/json" in headers.lower()
        assert b"x-content-type-options: nosniff" in headers.lower()
        assert text in [message["message"] for message in json.loads(body)["messages"]]
