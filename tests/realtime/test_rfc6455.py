"""The cases of RFC 6455, over real sockets."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from pytest_django import Settings
from tests.realtime.rfc6455 import SECTIONS, Case
from tests.realtime.serving import FIN, Echo, RawClient, Run, masked, served
from websockets.asyncio.client import connect

BYE = masked(8, b"\x03\xe8")


async def outcome(port: int, case: Case) -> tuple[list[tuple[int, bytes]], int]:
    """Return the frames before the server's Close, and its code."""
    client = await RawClient.upgraded(port)
    try:
        for piece in case.sent:
            client.write(piece)
            await asyncio.sleep(0)
        received = [await client.frame() for _ in case.expected]
        if case.code is None:
            client.write(BYE)
        first, payload = await client.frame()
        if first != FIN | 8:
            return [*received, (first, payload)], 0
        client.write(BYE)
        assert await client.ended() == b"", "nothing follows a Close"
    finally:
        client.leave()
    return [(first & 0x0F, payload) for first, payload in received], int.from_bytes(payload[:2], "big") or 1005


@pytest.mark.parametrize("section", SECTIONS, ids=[section.__name__ for section in SECTIONS])
def test_every_case_has_the_outcome_that_the_standard_requires(
    run: Run, section: Callable[[], Iterator[Case]], settings: Settings
) -> None:
    settings.CHANNELBOX_RATE = settings.CHANNELBOX_RATE_BURST = settings.CHANNELBOX_RATE_BYTES = 10**9

    async def check(port: int, case: Case, wrong: dict[str, object]) -> None:
        try:
            async with asyncio.timeout(10):
                got: object = await outcome(port, case)
        except (OSError, EOFError, TimeoutError) as error:
            got = repr(error)
        if got != (case.expected, case.code or 1000):
            wrong[case.name] = got

    async def scenario() -> None:
        wrong: dict[str, object] = {}
        async with served(Echo(), ws_max_size=64 * 1024) as server:
            cases = list(section())
            for at in range(0, len(cases), 20):
                await asyncio.gather(*(check(server.port, case, wrong) for case in cases[at : at + 20]))
        assert wrong == {}

    run(scenario())


def test_a_close_is_echoed_with_its_reason(run: Run) -> None:
    async def scenario() -> None:
        async with served(Echo()) as server:
            for payload in (b"", b"\x03\xe8", b"\x0f\xa0why", b"\x13\x87" + b"*" * 123):
                client = await RawClient.upgraded(server.port)
                client.write(masked(8, payload))
                assert await client.frame() == (FIN | 8, payload)
                assert await client.ended() == b""
                client.leave()

    run(scenario())


def test_compression_is_never_negotiated(run: Run) -> None:
    async def scenario() -> None:
        async with (
            served(Echo()) as server,
            connect(f"ws://127.0.0.1:{server.port}/", compression="deflate", ping_interval=None) as client,
        ):
            assert client.protocol.extensions == []
            await client.send("hi")
            assert await client.recv() == "hi"

    run(scenario())
