"""The `default` channel layer: the contract of Channels, with its extensions `groups` and `flush`, over the bus."""

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
    """Channel layer for any code written for Channels, also in other projects, where `hosts` is all that it needs.

    hosts: as in `RedisHosts`. None: those of the settings, over the connections that the process has to them anyway.
    capacity: unread messages in one channel. Beyond it, `send` raises ChannelFull, and messages to the channel's groups
        are dropped for this channel and counted.
    expiry: seconds after which an unread message is no longer delivered.
    channel_capacity: as in Channels.
    serializer_format, symmetric_encryption_keys: as in channels_redis.

    A channel made by `new_channel` belongs to this process and event loop, and lives as long as its name is held, which
    is the consumer's `channel_name`. However a consumer ends, its channel, messages and group memberships end with it.
    Each message reaches a consumer at most once. `send` and `group_send` raise RedisError while Redis is away; messages
    that are in transit when a connection breaks are lost.

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
        self._share_key = ("channel layer", serializer_format, tuple(symmetric_encryption_keys or ()))

    def serialize(self, message: Any) -> bytes:
        """Return the message as bytes."""
        return bytes(self._serializer.serialize(message))

    def deserialize(self, payload: bytes) -> Any:
        """Return the message that `serialize` made these bytes of."""
        return self._serializer.deserialize(payload)

    # --- Channels

    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Send a message to one channel. Raises ChannelFull when the channel holds as many messages as it may."""
        self.require_valid_channel_name(channel)
        payload, capacity = self.serialize(message), self.get_capacity(channel)
        if "!" in channel:
            await self._local().send(channel, payload, capacity, self.expiry)
        else:
            await self._local().shared(channel).put(payload, capacity, self.expiry)

    async def receive(self, channel: str) -> Any:
        """Return the next message of a channel, waiting for one. If cancelled, the message stays for the next call.

        A process-local channel (with a `!`) can be received from in its own process only, and only while its name is
        held; otherwise this raises RuntimeError. From a shared channel, which any process may receive from, each
        message reaches exactly one receiver.
        """
        self.require_valid_channel_name(channel)
        local = self._local()
        if "!" not in channel:
            return self.deserialize(await local.shared(channel).get())
        if (mailbox := local.mailboxes.get(channel)) is None:
            where = "its name has been released" if inbox_of(channel) == local.inbox else "another process's"
            raise RuntimeError(f"{channel} cannot be received from here: {where}")
        return await mailbox.get()

    async def new_channel(self, prefix: str = "specific.") -> ChannelName:
        """Create a channel of this process. Returns its name once messages that are sent to it will arrive."""
        self.require_valid_channel_name(f"{prefix}!")
        local = self._local()
        await local.open()
        return local.make(prefix, self.get_capacity, self.expiry)

    # --- Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group. Returns once messages that are sent to the group from now on reach the channel.

        A channel of another process is added by that process, or not at all if it has ended. Raises RedisError when
        the channel is not known to have been added.
        """
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._local().add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group. Does nothing if the channel is not in it."""
        self.require_valid_group_name(group)
        self.require_valid_channel_name(channel)
        await self._local().discard(group, channel)

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send a message to every channel of a group, in every process: one PUBLISH, whatever their number.

        Shared channels, which any process may receive from, get it one by one.
        """
        self.require_valid_group_name(group)
        payload = self.serialize(message)
        shared_channels = await Bus.current(self._hosts).publish_to_set(redis_keys.group(group), payload)
        for channel in map(bytes.decode, shared_channels):
            try:
                await self._local().shared(channel).put(payload, self.get_capacity(channel), self.expiry)
            except ChannelFull:
                counters.dropped += 1

    # --- Flush

    async def flush(self) -> None:
        """Delete every message, and every group of this process."""
        local = self._local()
        local.clear()
        for client in local.bus.clients():
            for pattern in (redis_keys.channel("*"), redis_keys.unread("*"), redis_keys.group("*")):
                async for name in client.scan_iter(match=pattern, count=1000):
                    await client.unlink(name)

    async def close(self) -> None:
        """Discard the channels and groups of this event loop. The layer may be used again, with new channels."""
        bus = Bus.current(self._hosts)
        if local := bus.shared.pop(self._share_key, None):
            await local.close()

    def _local(self) -> LocalChannels:
        bus = Bus.current(self._hosts)
        return bus.share(self._share_key, lambda: LocalChannels(bus, self.deserialize))
