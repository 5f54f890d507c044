"""Redis, a node or the power fails and comes back; people continue where they were."""

import asyncio
import contextlib

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Door, Member
from probe.speaker import RECOVERED_WITHIN, goes_on
from probe.waiting import until


async def test_redis_restarted_the_room_goes_on_without_a_gap(nodes: Nodes, couple: tuple[Member, Member]) -> None:
    first, second = couple
    speaker = await goes_on(first, second, lambda: nodes.root("data1", "systemctl restart redis-server"))
    assert not second.closed
    assert list(second.messages.values()) == speaker.said
    await until(lambda: len(nodes.status("web1")) == 8, RECOVERED_WITHIN, "every process is in the report again")


async def test_a_web_node_rebooted_returns_and_the_other_carries_on_meanwhile(
    nodes: Nodes, room: str, alice: Browser, bob: Browser, web1: Door, web2: Door, balancer: Door
) -> None:
    async with Member(bob, room, web2) as elsewhere:
        through = Member(alice, room, balancer)
        await through.enter()
        speaker = await goes_on(through, elsewhere, lambda: nodes.restart("web1"), within=10)
        assert list(elsewhere.messages.values()) == speaker.said
        await through.leave()

        async def back() -> bool:
            async with Member(alice, room, web1) as member:
                await member.says("web1 is back", within=3)
            return True

        await until(back, RECOVERED_WITHIN, "web1 serves again")
        await elsewhere.hears("web1 is back")


async def test_a_web_node_that_was_away_is_used_again_though_nobody_asks_for_a_page(
    nodes: Nodes, room: str, alice: Browser, balancer: Door
) -> None:
    """nginx alone would send it one WebSocket every two seconds for as long as none has ended."""
    async with contextlib.AsyncExitStack() as stack:

        async def one_more() -> int:
            await stack.enter_async_context(Member(alice, room, balancer))
            held = await asyncio.to_thread(nodes.root, "web1", "ss -Htn state established '( sport = :8080 )' | wc -l")
            return int(held)

        await asyncio.to_thread(nodes.root, "web1", "systemctl stop nginx")
        try:
            for _ in range(12):  # the balancer tries web1 and cannot connect
                await one_more()
        finally:
            await asyncio.to_thread(nodes.root, "web1", "systemctl start nginx")
        held: list[int] = []

        async def shares() -> bool:
            held.append(await one_more())
            return len(held) > 8 and held[-1] - held[-9] >= 6

        await until(shares, 2 * RECOVERED_WITHIN, "of eight who come one after another web1 gets at least six")


ODD: dict[str, tuple[tuple[str, str, bytes], int]] = {
    "a redirect beyond nginx' usual buffers": (("GET /admin/?q=" + "x" * 4000, "", b""), 302),
    "a handshake with a body": (
        (
            "GET /ws/chat/lobby/",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nContent-Length: 5\r\n",
            b"hello",
        ),
        400,
    ),
    "a long line": (("GET /" + "x" * 9000, "", b""), 414),
    "a long header": (("GET /", "X-Long: " + "x" * 9000 + "\r\n", b""), 431),
}
"""For each kind: the request as line, headers and body, and the status of the response."""


def _sent(door: Door, line: str, headers: str, body: bytes) -> int:
    """Send a request exactly as written and return the status of the response."""
    assert door.tls is not None
    with door.tls.wrap_socket(door.open(), server_hostname=door.host) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: {door.host}\r\n{headers}\r\n".encode() + body)
        return int(connection.recv(65536).split()[1])


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_takes_no_web_node_out(alice: Browser, balancer: Door, odd: str) -> None:
    request, status = ODD[odd]
    for _ in range(5):
        assert _sent(balancer, *request) == status
        assert [alice.request("GET", "/chat/")[0] for _ in range(4)] == [200] * 4


def test_a_web_node_without_a_process_says_so_and_is_left_out(
    nodes: Nodes, alice: Browser, web1: Door, balancer: Door
) -> None:
    # Stopping only the target would not wait until its units have stopped.
    nodes.root("web1", "systemctl stop channelbox.target 'channelbox-web@*' channelbox-web.socket")
    try:
        assert Browser(web1).request("GET", "/healthz")[0] == 504
        assert [alice.request("GET", "/chat/")[0] for _ in range(20)] == [200] * 20
    finally:
        nodes.root("web1", "systemctl start channelbox.target")


async def test_power_cut_of_the_data_node_loses_nothing_that_was_accepted(
    nodes: Nodes, couple: tuple[Member, Member]
) -> None:
    await goes_on(*couple, lambda: nodes.restart("data1", power_cut=True))
