"""Redis, a node or the power fails and recovers; clients continue where they were."""

import asyncio
import contextlib

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member
from probe.speaker import RECOVERED_WITHIN, assert_chat_survives
from probe.waiting import until


async def test_a_room_has_no_gap_after_a_redis_restart(nodes: Nodes, two_members: tuple[Member, Member]) -> None:
    first, second = two_members
    speaker = await assert_chat_survives(first, second, lambda: nodes.root("data1", "systemctl restart redis-server"))
    assert not second.closed
    assert list(second.messages.values()) == speaker.texts
    await until(lambda: len(nodes.status("web1")) == 8, RECOVERED_WITHIN, "every process is in the report again")


async def test_chat_continues_while_a_web_node_reboots(
    nodes: Nodes, room: str, alice: Browser, bob: Browser, web1: Endpoint, web2: Endpoint, balancer: Endpoint
) -> None:
    async with Member(bob, room, web2) as elsewhere:
        through = Member(alice, room, balancer)
        await through.enter()
        speaker = await assert_chat_survives(through, elsewhere, lambda: nodes.restart("web1"), within=10)
        assert list(elsewhere.messages.values()) == speaker.texts
        await through.leave()

        async def back() -> bool:
            async with Member(alice, room, web1) as member:
                await member.send("web1 is back", within=3)
            return True

        await until(back, RECOVERED_WITHIN, "web1 serves again")
        await elsewhere.wait_for("web1 is back")


async def test_balancer_uses_a_recovered_web_node_without_page_requests(
    nodes: Nodes, room: str, alice: Browser, balancer: Endpoint
) -> None:
    """nginx alone would send that node one WebSocket every two seconds until one of them has ended."""
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


def _sent(endpoint: Endpoint, line: str, headers: str, body: bytes) -> int:
    """Send a request exactly as written and return the status of the response."""
    assert endpoint.tls is not None
    with endpoint.tls.wrap_socket(endpoint.open(), server_hostname=endpoint.host) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\nHost: {endpoint.host}\r\n{headers}\r\n".encode() + body)
        return int(connection.recv(65536).split()[1])


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_request_does_not_mark_web_nodes_as_failed(alice: Browser, balancer: Endpoint, odd: str) -> None:
    request, status = ODD[odd]
    for _ in range(5):
        assert _sent(balancer, *request) == status
        assert [alice.request("GET", "/chat/")[0] for _ in range(4)] == [200] * 4


def test_a_web_node_without_processes_answers_504_and_is_skipped(
    nodes: Nodes, alice: Browser, web1: Endpoint, balancer: Endpoint
) -> None:
    # Stopping only the target would not wait until its units have stopped.
    nodes.root("web1", "systemctl stop channelbox.target 'channelbox-web@*' channelbox-web.socket")
    try:
        assert Browser(web1).request("GET", "/healthz")[0] == 504
        assert [alice.request("GET", "/chat/")[0] for _ in range(20)] == [200] * 20
    finally:
        nodes.root("web1", "systemctl start channelbox.target")


async def test_a_power_cut_of_the_data_node_loses_no_accepted_message(
    nodes: Nodes, two_members: tuple[Member, Member]
) -> None:
    await assert_chat_survives(*two_members, lambda: nodes.restart("data1", power_cut=True))
