"""The `default` channel layer: the contract of Channels, with its extensions for groups and flush, over the bus."""

from collections.abc import Mapping, Sequence
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer
from channels_redis.serializers import registry

from channelbox.realtime import redis_keys
from channelbox.realtime.bus import Bus
from channelbox.realtime.counters import counters
from channelbox.realtime.local_channels import LocalChannels, inbox_of
from channelbox.realtime.mailbox import ChannelName
from channelbox.realtime.redis_hosts import Host
from channelbox.realtime.standalone_settings import complete_settings


class ChannelLayer(BaseChannelLayer):
    """Anything written for Channels works on it as it is, in projects of others too: `hosts` is all that they need.

    hosts: as in `RedisHosts`; None means those of the settings, on the connections that the process has to them anyway.
    capacity: unread messages in one channel, beyond which `send` raises ChannelFull and what goes to its groups is
        dropped for it and counted; `channel_capacity` as in Channels.
    expiry: seconds after which an unread message is given to nobody.
    serializer_format, symmetric_encryption_keys: as in channels_redis.

    A channel made by `new_channel` belongs to this process and event loop, and lives as long as its name is held: the
    consumer's `channel_name`. Whatever happens to a consumer, its channel, its messages and its places in groups go
    with it. Each message reaches a consumer at most once; what is sent while Redis is away raises RedisError, and what
    is on its way when a connection breaks is lost.

    May be used from several event loops at once, and from sync code with async_to_sync.
    """

    extensions = ["groups", "flush"]

    def __init__(
        self,
        hosts: Sequence[Host] | None = None,
        capacity: int = 100,
        expiry: float = 60,
        channel_capacity: Mapping[Any, int] | None = None,
        serializer_format: str = "msgpack",
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        complete_settings()
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self._hosts = hosts
        self._serializer = registry.get_serializer(
            serializer_format, symmetric_encryption_keys=symmetric_encryption_keys
        )
        self._kind = ("channel layer", serializer_format, tuple(symmetric_encryption_keys or ()))

    def serialize(self, message: Any) -> bytes:
        """The message as bytes."""
        return bytes(self._serializer.serialize(message))

    def deserialize(self, payload: bytes) -> Any:
        """The message of bytes."""
        return self._serializer.deserialize(payload)

    # --- The contract of a channel layer

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Sends to one channel. Raises ChannelFull when it holds as much as it may."""
        self.require_valid_channel_name(channel)
        payload, capacity = self.serialize(message), self.get_capacity(channel)
        if "!" in channel:
            await self._local().send(channel, payload, capacity, self.expiry)
        else:
            await self._local().shared(channel).put(payload, capacity, self.expiry)

    async def receive(self, channel: str) -> Any:
        """The next message of a channel; waits for one. Cancelled: the message stays for the next call.

        A channel of a process (with a `!`) can be received from there only, and while its name is held: RuntimeError.
        Of a channel that any process may receive from, each message reaches exactly one.
        """
        self.require_valid_channel_name(channel)
        local = self._local()
        if "!" not in channel:
            return self.deserialize(await local.shared(channel).get())
        if (mailbox := local.mailboxes.get(channel)) is None:
            where = "its name is not held any more" if inbox_of(channel) == local.inbox else "another process's"
            raise RuntimeError(f"{channel} cannot be received from here: {where}")
        return await mailbox.get()

    async def new_channel(self, prefix: str = "specific.") -> ChannelName:
        """A channel of this process's own; returns when what is sent to it will be heard."""
        self.require_valid_channel_name(f"{prefix}!")
        local = self._local()
        await local.open()
        return local.make(prefix, self.get_capacity, self.expiry)

    # --- Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Adds a channel to a group; returns when what is sent to the group from now on is heard.

        A channel of another process is added there, or by nobody if that process has ended. Raises RedisError when
        this is not known to have happened.
        """
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._local().add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Takes a channel out of a group; nothing happens if it is not in it."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._local().discard(group, channel)

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Sends to every channel of a group, in every process: one PUBLISH, whatever their number.

        Channels that any process may receive from get it one by one.
        """
        self.require_valid_group_name(group)
        payload = self.serialize(message)
        listed = await Bus.current(self._hosts).publish_to_set(redis_keys.group(group), payload)
        for channel in map(bytes.decode, listed):
            try:
                await self._local().shared(channel).put(payload, self.get_capacity(channel), self.expiry)
            except ChannelFull:
                counters.dropped += 1

    # --- Flush

    async def flush(self) -> None:
        """Forgets every message, and every group of this process."""
        local = self._local()
        local.clear()
        for client in local.bus.clients():
            for pattern in (redis_keys.channel("*"), redis_keys.unread("*"), redis_keys.group("*")):
                async for name in client.scan_iter(match=pattern, count=1000):
                    await client.unlink(name)

    async def close(self) -> None:
        """Forgets this event loop's channels and groups; the layer may be used again, with new channels."""
        bus = Bus.current(self._hosts)
        if local := bus.shared.pop(self._kind, None):
            await local.close()

    def _local(self) -> LocalChannels:
        bus = Bus.current(self._hosts)
        return bus.share(self._kind, lambda: LocalChannels(bus, self.deserialize))
