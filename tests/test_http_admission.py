"""Admission of HTTP requests: limits by address and session, and a limit of concurrent requests."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pytest_django import Settings
from tests.support.waiting import until

from channelbox import http_admission
from channelbox.http_admission import HttpAdmission
from channelbox.realtime import admission
from channelbox.realtime.admission import Admission, Kind, Source
from channelbox.realtime.bus import Bus

API = "/chat/api/rooms"


class FakeApplication:
    """An application that reads the body of a request and answers once the test allows it."""

    def __init__(self) -> None:
        self.working = 0
        self.most = 0
        self.served: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.slow_reader = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            await self.open.wait()
        finally:
            self.working -= 1
        self.served.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/slow-reader":
            await self.slow_reader.wait()
        await send({"type": "http.response.body", "body": b"ok"})


class Request:
    """One request and its answer. `leave` disconnects the client."""

    def __init__(self, application: HttpAdmission, path: str, address: str, session: str, whole: bool) -> None:
        self._body = [not whole]  # whether more of the body follows
        self._left = asyncio.Event()
        self.sent: list[dict[str, Any]] = []
        cookie = [(b"cookie", f"channelbox_session={session}".encode())] if session else []
        scope = {"type": "http", "path": path, "method": "GET", "client": (address, 1), "headers": cookie}
        self.task = asyncio.ensure_future(application(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": b"x", "more_body": self._body.pop()}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def leave(self) -> None:
        self._left.set()

    async def status(self) -> int:
        await self.task
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return self.sent[1]["body"]


Ask = Callable[..., Request]


@pytest.fixture
async def pages() -> FakeApplication:
    return FakeApplication()


@pytest.fixture
async def ask(pages: FakeApplication, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ask]:
    settings.CHANNELBOX_REQUESTS_AT_ONCE = 2
    settings.CHANNELBOX_REQUESTS_WAITING = 20
    monkeypatch.setattr(http_admission, "REFUSAL_SECONDS", 0)
    application = HttpAdmission(pages)
    requests: list[Request] = []

    def ask(path: str = API, address: str = "192.0.2.1", session: str = "", whole: bool = True) -> Request:
        requests.append(Request(application, path, address, session, whole))
        return requests[-1]

    yield ask
    for request in requests:
        request.task.cancel()
    await asyncio.gather(*(request.task for request in requests), return_exceptions=True)
    await Bus.current().stop()


async def statuses(requests: list[Request]) -> Counter[int]:
    return Counter([await request.status() for request in requests])


async def test_a_request_is_served(ask: Ask) -> None:
    assert await ask().status() == 200


async def test_requests_of_a_session_are_limited(ask: Ask, settings: Settings) -> None:
    settings.CHANNELBOX_REQUESTS_PERSON = 1
    assert await statuses([ask(session="flood") for _ in range(15)]) == {200: 10, 429: 5}
    assert await ask(session="other").status() == 200


async def test_requests_of_an_address_are_limited_across_sessions(ask: Ask, settings: Settings) -> None:
    settings.CHANNELBOX_REQUESTS_ADDRESS = 1
    assert await statuses([ask(session=f"s{n}") for n in range(15)]) == {200: 10, 429: 5}
    assert await ask(address="192.0.2.2").status() == 200


async def test_a_refusal_says_when_to_try_again_as_json_or_a_page(ask: Ask, settings: Settings) -> None:
    settings.CHANNELBOX_REQUESTS_PERSON = 0.1
    assert await ask(session="s").status() == 200
    program = ask(session="s")
    assert await program.status() == 429
    assert program.headers["retry-after"] == "10"
    assert json.loads(program.body) == {
        "error": "Too many requests. Try again in 10 s.",
        "code": "too_fast",
        "retry_after": 10,
    }
    page = ask("/chat/", session="s")
    assert await page.status() == 429
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["retry-after"] == "10"
    assert b"Try again in 10 s." in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_refusals_are_delayed_to_slow_down_immediate_retries(
    ask: Ask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CHANNELBOX_REQUESTS_PERSON = 0.1
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(http_admission, "REFUSAL_SECONDS", 1)
    monkeypatch.setattr(http_admission.asyncio, "sleep", sleep)
    assert await statuses([ask(session="s") for _ in range(3)]) == {200: 1, 429: 2}
    assert pauses == [1, 1]


async def test_concurrent_requests_are_limited_and_all_are_served(ask: Ask, pages: FakeApplication) -> None:
    pages.open.clear()
    requests = [ask(session=f"s{n}") for n in range(10)]
    await until(lambda: pages.working == 2)
    pages.open.set()
    assert await statuses(requests) == {200: 10}
    assert pages.most == 2


async def test_a_full_queue_refuses_the_flood_and_serves_others(ask: Ask, pages: FakeApplication) -> None:
    pages.open.clear()
    flood = [ask(session="flood") for _ in range(40)]
    await until(lambda: sum(request.task.done() for request in flood) == 19)
    other = ask("/other", session="other")
    await until(lambda: pages.working == 2)
    pages.open.set()
    assert await other.status() == 200
    assert await statuses(flood) == {200: 20, 429: 20}, "the other's place in the queue was one of the flood's"
    assert pages.served.index("/other") <= 2, "half of the turns are for others"


async def test_a_request_that_waits_too_long_gets_429_try_later(
    ask: Ask, pages: FakeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_admission, "WAIT_SECONDS", 0.05)
    pages.open.clear()
    ask(session="a"), ask(session="b")
    late = ask(session="c")
    assert await late.status() == 429, "not 503, by which a balancer would judge the node"
    assert late.headers["retry-after"] == "3"
    assert json.loads(late.body)["code"] == "try_later"


async def test_a_client_that_leaves_while_waiting_is_not_served(ask: Ask, pages: FakeApplication) -> None:
    pages.open.clear()
    working = [ask(session="a"), ask(session="b")]
    gone = ask("/gone", session="c")
    await until(lambda: pages.working == 2)
    gone.leave()
    await gone.task
    pages.open.set()
    assert await statuses(working) == {200: 2}
    assert gone.sent == []
    assert "/gone" not in pages.served
    assert await ask().status() == 200


async def test_slow_request_bodies_do_not_occupy_turns(ask: Ask, pages: FakeApplication) -> None:
    for _ in range(5):
        ask("/accounts/login/", whole=False)
    assert await ask().status() == 200


async def test_slowly_read_responses_do_not_occupy_turns(ask: Ask, pages: FakeApplication) -> None:
    slow = [ask("/slow-reader", session=f"s{n}") for n in range(5)]
    assert await ask().status() == 200
    pages.slow_reader.set()
    assert await statuses(slow) == {200: 5}


async def test_health_checks_are_answered_when_all_turns_are_taken(ask: Ask, pages: FakeApplication) -> None:
    pages.open.clear()
    for n in range(10):
        ask(session=f"s{n}")
    await until(lambda: pages.working == 2)
    health = ask("/healthz")
    await until(lambda: pages.working == 3)
    pages.open.set()
    assert await health.status() == 200


async def test_health_checks_are_answered_despite_the_address_limit(ask: Ask, settings: Settings) -> None:
    settings.CHANNELBOX_REQUESTS_PERSON = settings.CHANNELBOX_REQUESTS_ADDRESS = 0.1
    assert [await ask(session="s").status(), await ask(session="s").status()] == [200, 429]
    assert [await ask("/healthz", session="s").status() for _ in range(3)] == [200] * 3


async def test_session_keys_are_not_shared_with_other_processes(ask: Ask) -> None:
    await ask(session="secret").status()
    shared_names = [*Admission.current().rate_sync._buckets, *Admission.current().rate_sync._spent]
    assert shared_names
    assert not any("secret" in name for name in shared_names)


async def test_a_flood_of_sessions_does_not_fill_memory(
    ask: Ask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "MAX_BUCKETS", 50)
    for n in range(200):
        await ask(session=f"s{n}", address=f"192.0.2.{n % 250}").status()
    assert len(Admission.current().rate_sync) <= 52


async def test_ten_thousand_clients_behind_one_address_are_admitted(settings: Settings) -> None:
    """With the default settings, no client is refused because of the requests of the others."""
    take = Admission.current().take
    waits = [take(Kind.REQUESTS, Source("192.0.2.1", f"s{n}"))[0] for n in range(10_000)]
    assert not any(waits)
    waits = [take(Kind.JOINS, Source("192.0.2.1", f"u:{n}"))[0] for n in range(10_000)]
    assert not any(waits)


def test_health_checks_are_answered_before_the_balancer_times_out() -> None:
    """The balancer waits 10 s for /healthz (nginx site of the roles); a later answer counts as a failure."""
    assert http_admission.HEALTH_WAIT_SECONDS + 1 < 10
    assert http_admission._max_wait_seconds("/healthz") == http_admission.HEALTH_WAIT_SECONDS
    assert http_admission._max_wait_seconds("/chat/") == http_admission.WAIT_SECONDS
