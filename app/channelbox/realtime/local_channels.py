"""The part of the default channel layer in one event loop: its channels, groups and inbox."""

import asyncio
import collections
import contextlib
import logging
import secrets
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from channels.exceptions import ChannelFull
from redis.commands.core import AsyncScript

from channelbox.realtime import redis_keys
from channelbox.realtime.background_tasks import once
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.mailbox import ChannelName, Mailbox
from channelbox.realtime.remote_group_members import RemoteGroupMembers
from channelbox.realtime.shared_channel import SharedChannel
from channelbox.realtime.subscriber import UNREACHABLE

logger = logging.getLogger(__name__)

SEND_SCRIPT = Path(__file__).with_name("send_to_channel.lua").read_text()
ACK_SCRIPT = Path(__file__).with_name("ack.lua").read_text()
INBOX_CHARACTERS = 16  # the last ones before the "!" of a channel's name: the inbox of the process that made it
CLOSE_SECONDS = 1
SEPARATOR = b"\0"  # between the channel's name and the message


def inbox_of(channel: str) -> str:
    """Return the inbox that the messages of a process-local channel are sent to."""
    return channel[: channel.index("!")][-INBOX_CHARACTERS:]


class _Group:
    """The channels of this process in one group, and the future of the group's single subscription."""

    __slots__ = ("confirmed", "members")

    def __init__(self) -> None:
        self.members: dict[str, Mailbox] = {}
        self.confirmed: asyncio.Future[None]


class LocalChannels:
    """Mailboxes of this loop's consumers. Has a subscription per group, and one for all process-local channels."""

    def __init__(self, bus: Bus, deserialize: Callable[[bytes], Any]) -> None:
        self.bus = bus
        self.inbox = secrets.token_hex(INBOX_CHARACTERS // 2)
        self.mailboxes: dict[str, Mailbox] = {}
        self.groups: dict[str, _Group] = {}
        self._names: dict[str, weakref.ref[ChannelName]] = {}
        self._shared: dict[str, SharedChannel] = {}
        self._deserialize = deserialize
        self._loop = asyncio.get_running_loop()
        self._subscribed: asyncio.Future[None] | None = None
        self._unacknowledged: collections.Counter[str] = collections.Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.remote = RemoteGroupMembers(bus, self.inbox, {"add": self._join, "discard": self._leave}, self._spawn)
        bus.on_restored(self._restored)
        bus.on_stop(self.close)

    async def open(self) -> None:
        """Subscribe to the inbox. Returns once messages to process-local channels will arrive."""
        if self._subscribed is None:
            self._subscribed = self.bus.begin(redis_keys.inbox(self.inbox), self._on_inbox_message)
        await asyncio.shield(self._subscribed)

    def make(self, prefix: str, capacity: Callable[[str], int], expiry: float) -> ChannelName:
        """Create a channel and return its name. The channel is removed when nobody holds the name any more.

        `capacity` returns the number of messages that a channel of a given name may hold; `expiry` is in seconds.
        """
        name = ChannelName(f"{prefix}{self.inbox}!{secrets.token_hex(6)}")
        key = "".join(name)  # a copy: the name itself must be free to be collected
        self.mailboxes[key] = Mailbox(key, capacity(key), expiry, self._acknowledge)
        reference = weakref.ref(self)

        def name_collected(_: object) -> None:
            # May run in any thread: wherever the name was collected.
            with contextlib.suppress(RuntimeError):  # the loop is closed
                if owner := reference():
                    owner._loop.call_soon_threadsafe(owner.forget, key)

        self._names[key] = weakref.ref(name, name_collected)
        return name

    def shared(self, channel: str) -> SharedChannel:
        """Return the shared channel of this name, which any process may receive from."""
        if channel not in self._shared:
            self._shared[channel] = SharedChannel(self.bus, redis_keys.channel(channel))
        return self._shared[channel]

    def forget(self, channel: str) -> None:
        """Remove a channel, its messages and its group memberships."""
        self._names.pop(channel, None)
        if mailbox := self.mailboxes.pop(channel, None):
            for group in list(mailbox.groups):
                self.leave(group, channel)
            mailbox.clear()

    # --- Groups

    async def add(self, group: str, channel: str) -> None:
        """Add a channel of any process to a group. Returns once the group's messages arrive there."""
        if "!" not in channel:
            await self.remote.list_channel(group, channel)
        elif (inbox := inbox_of(channel)) == self.inbox:
            await self._join(group, channel)
        else:
            await self.open()
            await self.remote.request("add", group, channel, inbox)

    async def discard(self, group: str, channel: str) -> None:
        """Remove a channel of any process from a group."""
        if "!" not in channel:
            await self.remote.unlist_channel(group, channel)
        elif (inbox := inbox_of(channel)) == self.inbox:
            self.leave(group, channel)
        else:
            await self.open()
            await self.remote.request("discard", group, channel, inbox)

    async def _join(self, group: str, channel: str) -> None:
        mailbox = self.mailboxes.get(channel)
        if mailbox is None:  # the channel is gone: nobody would receive
            return
        entry = self.groups.get(group)
        if entry is None:
            entry = _Group()
            entry.confirmed = self.bus.begin(
                redis_keys.group(group), lambda payload: self._on_group_message(entry, payload)
            )
            self.groups[group] = entry
        entry.members[mailbox.channel] = mailbox
        mailbox.groups.add(group)
        try:
            await asyncio.shield(entry.confirmed)
        except BaseException:
            self.leave(group, channel)
            raise

    async def _leave(self, group: str, channel: str) -> None:
        self.leave(group, channel)

    def leave(self, group: str, channel: str) -> None:
        """Remove a channel of this process from a group, whose messages it no longer gets."""
        if (entry := self.groups.get(group)) is None:
            return
        if mailbox := entry.members.pop(channel, None):
            mailbox.groups.discard(group)
        if not entry.members:
            del self.groups[group]
            self.bus.forget(redis_keys.group(group))

    def _on_group_message(self, entry: _Group, payload: bytes) -> None:
        message = self._deserialize(payload)
        for mailbox in entry.members.values():
            mailbox.put(message)

    # --- Process-local channels

    async def send(self, channel: str, payload: bytes, capacity: int, expiry: float) -> None:
        """Send to a process-local channel, of this process or another. `capacity` in messages, `expiry` in seconds.

        Raises ChannelFull when the channel holds as many messages as it may.
        """
        mailbox = self.mailboxes.get(channel)
        if mailbox is None or not mailbox.full:
            inbox = inbox_of(channel)
            key = redis_keys.inbox(inbox)
            script = AsyncScript(self.bus.client(key), SEND_SCRIPT)
            limits = (channel, capacity, round(expiry * 1000))
            if await script([redis_keys.unread(inbox)], (*limits, key, channel.encode() + SEPARATOR + payload)):
                return
        raise ChannelFull(f"{channel} holds {capacity} messages that its consumer has not received")

    def _on_inbox_message(self, payload: bytes) -> None:
        name, _, content = payload.partition(SEPARATOR)
        if not name:
            self.remote.handle(content)
            return
        channel = name.decode()
        if mailbox := self.mailboxes.get(channel):
            mailbox.put(self._deserialize(content), sent=True)
        else:
            counters.dropped += 1
            self._acknowledge(channel)

    def _acknowledge(self, channel: str) -> None:
        """Free a place for the next `send`, in any process. All places of one turn of the loop share a command."""
        if not self._unacknowledged:
            self._spawn(self._send_acknowledgements())
        self._unacknowledged[channel] += 1

    async def _send_acknowledgements(self) -> None:
        counts, self._unacknowledged = self._unacknowledged, collections.Counter()
        script = AsyncScript(self.bus.client(redis_keys.inbox(self.inbox)), ACK_SCRIPT)
        arguments = [str(word) for pair in counts.items() for word in pair]
        try:
            await script([redis_keys.unread(self.inbox)], arguments)
        except UNREACHABLE as error:
            logger.debug("Unread counts are wrong until they expire: %s", error)

    def _restored(self) -> None:
        """Free the places of messages in transit, which are lost since the connection broke."""
        self._spawn(self._reset_unread())

    async def _reset_unread(self) -> None:
        with contextlib.suppress(*UNREACHABLE):
            await self.bus.client(redis_keys.inbox(self.inbox)).delete(redis_keys.unread(self.inbox))

    # --- Closing

    def clear(self) -> None:
        """Delete all messages and groups. The channels remain."""
        for channel, mailbox in self.mailboxes.items():
            for group in list(mailbox.groups):
                self.leave(group, channel)
            mailbox.clear()

    async def close(self) -> None:
        """Discard everything, and end every subscription and task."""
        for channel in list(self.mailboxes):
            self.forget(channel)
        if self._subscribed is not None:
            self.bus.forget(redis_keys.inbox(self.inbox))
            self._subscribed = None
        await asyncio.gather(*(shared.close() for shared in self._shared.values()))
        self._shared.clear()
        if self._tasks:  # updates of unread counts, which expire if Redis does not answer now
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        once(f"channels of {self.inbox}", work, self._tasks)
