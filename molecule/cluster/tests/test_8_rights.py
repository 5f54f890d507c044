"""A connection is closed within seconds, on every node, when its user's rights are revoked on any node."""

import asyncio
import time
import uuid
from collections.abc import Callable

import pytest
from probe.nodes import Nodes
from probe.people import Browser, Endpoint, Member

PASSWORD, ANOTHER = "correct horse battery staple", "staple battery horse correct"
WITHIN = 5.0  # seconds, as promised
SIGNED_OUT, NOT_ALLOWED = 4001, 4003

FOR_MEMBERS = (
    "from channelbox.accounts.models import User; from channelbox.chat.models import Room; "
    "Room.objects.create(name='{room}', members_only=True).members.add(User.objects.get(username='{name}'))"
)
NO_MEMBER = (
    "from channelbox.accounts.models import User; from channelbox.chat.models import Room; "
    "Room.objects.get(name='{room}').members.remove(User.objects.get(username='{name}'))"
)

Revocation = Callable[[Nodes, Browser, str, str], object]


def sign_out(nodes: Nodes, browser: Browser, name: str, room: str) -> None:
    status, _ = browser.request(
        "POST", "/accounts/logout/", {"csrfmiddlewaretoken": browser.cookies["channelbox_csrf"]}
    )
    assert status == 302


def deactivate(nodes: Nodes, browser: Browser, name: str, room: str) -> None:
    nodes.root("worker1", f"channelbox user deactivate {name}")


def new_password(nodes: Nodes, browser: Browser, name: str, room: str) -> None:
    nodes.root("worker1", f"printf %s '{ANOTHER}' | channelbox user password {name} --password-stdin")


def remove_from_room(nodes: Nodes, browser: Browser, name: str, room: str) -> None:
    nodes.root("worker1", f'channelbox manage shell -c "{NO_MEMBER.format(room=room, name=name)}"')


@pytest.mark.parametrize(
    ("revoke", "code"),
    [(sign_out, SIGNED_OUT), (deactivate, SIGNED_OUT), (new_password, SIGNED_OUT), (remove_from_room, NOT_ALLOWED)],
    ids=["sign-out", "deactivation", "a new password", "removal from the room"],
)
async def test_revoked_rights_close_connections_on_every_node(
    nodes: Nodes,
    room: str,
    alice: Browser,
    web1: Endpoint,
    web2: Endpoint,
    revoke: Revocation,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"charlie-{uuid.uuid4().hex[:8]}"
    nodes.root("web1", f"printf %s '{PASSWORD}' | channelbox user add {name} --password-stdin")
    nodes.root("web1", f'channelbox manage shell -c "{FOR_MEMBERS.format(room=room, name=name)}"')
    charlie = Browser(web1)
    charlie.sign_in(name, PASSWORD)
    async with (
        Member(charlie, room, web1) as here,
        Member(charlie, room, web2) as there,
        Member(alice, "lobby", web2) as other,
    ):
        await here.send("I am still here")
        await there.wait_for("I am still here")
        closing = [asyncio.create_task(_wait_closed(member)) for member in (here, there)]
        # The command itself takes a second or more to start, so the time is measured from its end.
        await asyncio.to_thread(revoke, nodes, charlie, name, room)
        revoked = time.monotonic()
        times = []
        for each in closing:
            at, closed = await each
            assert closed == code
            assert at - revoked < WITHIN
            times.append(max(0.0, at - revoked))
        with capsys.disabled():
            print(f" closed after {' and '.join(f'{seconds:.2f}' for seconds in times)} s ", end="")
        await other.send("this is none of my business")


async def _wait_closed(member: Member) -> tuple[float, int]:
    """Return when the connection was closed, and with which code."""
    code, _ = await member.wait_closed(60)
    return time.monotonic(), code
