"""Sockets close when their session or their user's access ends: the whole application over a real Redis."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import close_old_connections, connections
from django.test import Client
from django.urls import reverse
from pytest_django import Settings
from tests.chat.process import runtime  # noqa: F401 - a fixture
from tests.support.waiting import most_in_a_turn, until

from channelbox.accounts import revocation
from channelbox.accounts.models import User
from channelbox.accounts.revocation import RevocationMonitor, SocketGrant
from channelbox.asgi import application
from channelbox.chat.models import Room
from channelbox.chat.runtime import ChatRuntime
from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.errors import Refused

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("runtime")]
ORIGIN = "http://localhost"
CLOSE_SECONDS = 15  # within which a socket must close; without a notice it would take a minute


@pytest.fixture(autouse=True)
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNELBOX_GUESTS = True
    settings.CHANNELBOX_ROOM_CREATION = "anyone"
    settings.CHANNELBOX_ORIGINS = [ORIGIN]
    # The check of new connections would hide that no notice was published.
    monkeypatch.setattr(revocation, "NEW_SECONDS", 30.0)


@pytest.fixture(autouse=True)
async def return_connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Return database connections to the pool.

    Channels' communicator keeps them open, and so does the thread of a test's own queries.
    """
    monkeypatch.setattr("channels.testing.application.no_op", close_old_connections)
    yield
    await in_thread(connections.close_all)()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


class Socket:
    def __init__(self, path: str, client: Client | None) -> None:
        cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value if client else ""
        headers = [
            (b"origin", ORIGIN.encode()),
            (b"cookie", f"{django_settings.SESSION_COOKIE_NAME}={cookie}".encode()),
        ]
        self.ws = WebsocketCommunicator(application, path, headers=headers)

    async def connect(self) -> None:
        await self.ws.connect(timeout=10)
        while json.loads(await self.ws.receive_from(timeout=10)).get("type") not in ("welcome", None):
            pass

    async def closed(self) -> tuple[int, str]:
        """Wait until it is closed. Returns the close code and the error text before it."""
        sentence = ""
        async with asyncio.timeout(CLOSE_SECONDS):
            while True:
                message = await self.ws.receive_output(timeout=CLOSE_SECONDS)
                if message["type"] == "websocket.close":
                    return message["code"], sentence
                sentence = json.loads(message["text"]).get("error", sentence)

    async def answers(self) -> bool:
        """Return whether it is open, that is, answers a ping."""
        await self.ws.send_to(text_data='{"type": "ping"}')
        while True:
            message = await self.ws.receive_output(timeout=CLOSE_SECONDS)
            if message["type"] == "websocket.close":
                return False
            if json.loads(message["text"])["type"] == "pong":
                return True


Enter = Callable[..., Any]


@pytest.fixture
async def enter() -> AsyncIterator[Enter]:
    sockets: list[Socket] = []

    async def enter(client: Client | None, room: str = "ops", path: str = "") -> Socket:
        socket = Socket(path or f"/ws/chat/{room}/", client)
        sockets.append(socket)
        await socket.connect()
        await until_monitor_is_subscribed()
        return socket

    yield enter
    for socket in sockets:
        await socket.ws.disconnect(timeout=10)


async def until_monitor_is_subscribed() -> None:
    """Wait until the monitor is subscribed, so that it misses no notice that follows."""
    bus = Bus.current()
    async with asyncio.timeout(10):
        while not await bus.publish(redis_keys.revoked(), b"nobody"):
            await asyncio.sleep(0.01)


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="correct horse battery")


in_thread = sync_to_async


async def test_signing_out_closes_the_sockets_of_that_session_only(enter: Enter, alice: User) -> None:
    here, elsewhere = await in_thread(signed_in)(alice), await in_thread(signed_in)(alice)
    first, second, other = await enter(here), await enter(here, "lab"), await enter(elsewhere)
    await in_thread(here.post)(reverse("accounts:logout"))
    assert await first.closed() == (4001, "You are signed out. Sign in again.")
    assert await second.closed() == (4001, "You are signed out. Sign in again.")
    assert await other.answers()


async def test_deactivation_closes_the_sockets_of_that_user_only(enter: Enter, alice: User) -> None:
    bob = await User.objects.acreate(username="bob")
    socket, other, guest = (
        await enter(await in_thread(signed_in)(alice)),
        await enter(await in_thread(signed_in)(bob)),
        await enter(None),
    )
    alice.is_active = False
    await alice.asave()
    assert (await socket.closed())[0] == 4001
    assert await other.answers()
    assert await guest.answers()


async def test_a_new_password_closes_the_users_sockets(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    alice.set_password("another horse battery")
    await alice.asave()
    assert (await socket.closed())[0] == 4001


async def test_deactivation_by_command_closes_the_users_sockets(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    command = [sys.executable, "-m", "channelbox.cli.main", "user", "deactivate", "alice"]
    await in_thread(partial(subprocess.run, command, check=True, capture_output=True))()
    assert (await socket.closed())[0] == 4001


async def test_deleting_a_user_closes_their_sockets(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    await alice.adelete()
    assert (await socket.closed())[0] == 4001


async def test_signing_out_closes_the_dashboard_socket(enter: Enter, alice: User) -> None:
    client = await in_thread(signed_in)(alice)
    socket = await enter(client, path="/ws/dashboard/")
    await in_thread(client.post)(reverse("accounts:logout"))
    assert (await socket.closed())[0] == 4001


@pytest.mark.parametrize("side", ["the room's", "the user's"])
async def test_removing_a_member_closes_that_members_socket(enter: Enter, alice: User, side: str) -> None:
    bob = await User.objects.acreate(username="bob")
    room = await Room.objects.acreate(name="ops", members_only=True)
    await room.members.aset([alice, bob])
    leaving, staying = await enter(await in_thread(signed_in)(alice)), await enter(await in_thread(signed_in)(bob))
    if side == "the room's":
        await room.members.aremove(alice)
    else:
        await alice.rooms.aclear()
    assert await leaving.closed() == (4003, "This room is for its members only.")
    assert await staying.answers()


async def test_closing_a_room_closes_sockets_of_users_and_guests(enter: Enter, alice: User) -> None:
    user, guest, other = await enter(await in_thread(signed_in)(alice)), await enter(None), await enter(None, "lab")
    room = await Room.objects.aget(name="ops")
    room.closed = True
    await room.asave(update_fields=["closed"])
    assert await user.closed() == (4003, "This room is closed.")
    assert (await guest.closed())[0] == 4003
    assert await other.answers()


async def test_deleting_a_room_closes_its_sockets(enter: Enter) -> None:
    guest = await enter(None)
    await Room.objects.filter(name="ops").adelete()
    assert await guest.closed() == (4003, "This room was deleted.")


async def test_checking_all_sockets_finds_an_unpublished_change(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    RevocationMonitor.current().check_all()
    assert (await socket.closed())[0] == 4001


async def test_a_regular_check_covers_all_sockets_in_one_call(
    enter: Enter, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No notice is published: when one is lost, a socket closes late, but it does close."""
    monkeypatch.setattr(revocation, "NEW_SECONDS", 0.05)
    monkeypatch.setattr(revocation, "ALL_SECONDS", 0.5)
    checks: list[int] = []

    def counting_rule(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
        checks.append(len(grants))
        return {}

    monkeypatch.setattr(revocation, "rules", [counting_rule, *revocation.rules])
    client = await in_thread(signed_in)(alice)
    sockets = [await enter(client, f"room-{number}") for number in range(3)]
    guest = await enter(None)
    async with asyncio.timeout(CLOSE_SECONDS):
        while RevocationMonitor.current()._due or 4 not in checks:
            await asyncio.sleep(0.01)
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    for socket in sockets:
        assert (await socket.closed())[0] == 4001
    assert await guest.answers()


async def test_an_unchanged_session_is_not_decoded_again(
    enter: Enter, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await in_thread(signed_in)(alice)
    await enter(client)
    (grant,) = RevocationMonitor.current().grants
    decoded: list[str] = []
    decode = revocation.SessionStore.decode

    def counting_decode(self: Any, content: str) -> Any:
        decoded.append(content)
        return decode(self, content)

    monkeypatch.setattr(revocation.SessionStore, "decode", counting_decode)
    assert await in_thread(revocation.sessions)([grant]) == {}
    assert decoded == []
    await in_thread(_save_changed_session)(client)
    decoded.clear()
    assert await in_thread(revocation.sessions)([grant]) == {}
    assert await in_thread(revocation.sessions)([grant]) == {}
    assert len(decoded) == 1


def _save_changed_session(client: Client) -> None:
    session = client.session
    session["more"] = 1
    session.save()


async def test_a_new_socket_is_checked_soon_after_opening(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "NEW_SECONDS", 1.0)
    session = (await in_thread(signed_in)(alice)).session.session_key
    await User.objects.filter(pk=alice.pk).aupdate(is_active=False)
    ended: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()

    async def end(reason: Refused) -> None:
        ended.set_result(reason)

    RevocationMonitor.current().admit(SocketGrant(end, alice.pk, session))
    async with asyncio.timeout(CLOSE_SECONDS):
        assert (await ended).close == 4001


async def test_a_closed_socket_is_no_longer_monitored(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    assert len(RevocationMonitor.current().grants) == 1
    await socket.ws.disconnect(timeout=10)
    assert not RevocationMonitor.current().grants


@dataclass(eq=False)
class CountingGrant(SocketGrant):
    """A grant that counts reads of the user or room of any grant."""

    reads: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> Any:
        CountingGrant.reads += name in ("user", "room")
        return super().__getattribute__(name)


async def test_a_notice_reads_only_the_grants_that_it_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: set[SocketGrant] = set()

    def recording_rule(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
        checked.update(grants)
        return {}

    async def end(reason: Refused) -> None:
        raise AssertionError("no connection is refused in this test")

    monkeypatch.setattr(revocation, "rules", [recording_rule])
    monitor = RevocationMonitor.current()
    grants = [CountingGrant(end, number % 100, "session", (number % 20, "r", "e")) for number in range(500)]
    for grant in grants:
        monitor.admit(grant)
    await until_monitor_is_subscribed()
    await until(lambda: checked == set(grants))  # the check of all that follows every subscription
    checked.clear()
    monitor.leave(grants[7])  # of user 7 in room 7
    CountingGrant.reads = 0
    await in_thread(revocation.notify_after_commit)("room", 7)
    await in_thread(revocation.notify_after_commit)("user", 9)
    concerned = {*grants[7::20], *grants[9::100]} - {grants[7]}
    await until(lambda: checked == concerned)
    assert CountingGrant.reads <= len(concerned)
    for grant in grants:
        monitor.leave(grant)
    assert not monitor._by_room
    assert not monitor._by_user


async def test_a_limited_number_of_sockets_is_closed_per_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Refused] = []

    async def end(reason: Refused) -> None:
        ended.append(reason)

    monitor = RevocationMonitor.current()
    for _ in range(400):
        monitor.admit(SocketGrant(end, room=(1, "removed", "epoch")))
    assert await most_in_a_turn(lambda: len(ended), 400) <= 50


async def test_clearing_expired_sessions_closes_no_socket(enter: Enter, alice: User) -> None:
    socket = await enter(await in_thread(signed_in)(alice))
    expired = await in_thread(signed_in)(alice)
    await Session.objects.filter(session_key=expired.session.session_key).aupdate(expire_date="2020-01-01T00:00Z")
    await in_thread(call_command)("clear_sessions")
    assert await Session.objects.acount() == 1
    bob = await User.objects.acreate(username="bob")
    of_bob = await enter(await in_thread(signed_in)(bob))
    await User.objects.filter(pk=bob.pk).aupdate(is_active=False)
    RevocationMonitor.current().check_all()
    assert (await of_bob.closed())[0] == 4001, "all sockets have been checked"
    assert await socket.answers()


async def test_a_user_can_be_deactivated_without_redis(
    alice: User,
    settings: Settings,
    runtime: ChatRuntime,  # noqa: F811
) -> None:
    from channelbox.realtime import sync_redis

    settings.CHANNELBOX_REDIS_HOSTS = [{"address": "unix:///nowhere/redis.sock"}]
    sync_redis.clients.cache_clear()
    alice.is_active = False
    await alice.asave()
    sync_redis.clients.cache_clear()
    assert not (await User.objects.aget(pk=alice.pk)).is_active
