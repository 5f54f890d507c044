"""The chat's parts in one web process, which are created, started and stopped together."""

from typing import Self

from channels.layers import get_channel_layer
from django.conf import settings

from channelbox.accounts.revocation import RevocationMonitor
from channelbox.chat.history import History
from channelbox.chat.ingest import INGEST_CHANNEL, INGEST_TYPE
from channelbox.realtime.admission import Admission
from channelbox.realtime.bus import Bus
from channelbox.realtime.hub import Hub
from channelbox.realtime.presence import Presence
from channelbox.realtime.reconciler import Reconciler
from channelbox.realtime.redis_keys import process_name
from channelbox.realtime.room_slots import RoomSlots
from channelbox.work.backpressure import Bounds
from channelbox.work.outbox import Outbox


class ChatRuntime:
    """The chat's parts of one event loop."""

    def __init__(self) -> None:
        process = process_name()
        self.bus = Bus.current()
        self.hub = Hub(self.bus, History(), process)
        self.room_slots = RoomSlots(self.bus, process)
        self.presence = Presence(self.bus, self.hub, process)
        self.reconciler = Reconciler(self.hub, History.observe, History.renew)
        self.rate_sync = Admission.current().rate_sync
        self.outbox = Outbox(
            get_channel_layer("work"),
            INGEST_CHANNEL,
            INGEST_TYPE,
            self.bus,
            self.hub,
            process,
            Bounds(
                settings.CHANNELBOX_OUTBOX_MAX,
                settings.CHANNELBOX_OUTBOX_BYTES,
                settings.CHANNELBOX_OUTBOX_SECONDS,
            ),
        )
        self.hub.on_open = self.presence.opened
        self.hub.on_outcome = self.outbox.settle
        self.hub.on_replaced = RevocationMonitor.current().check_room

    @staticmethod
    def current() -> "ChatRuntime":
        """Return that of the running event loop; create it if there is none."""
        return Bus.current().share(ChatRuntime, ChatRuntime)

    def rooms(self) -> list[str]:
        """Return the names of the rooms with members in this process."""
        return [name for name, room in self.hub.rooms.items() if room.members]

    async def start(self) -> Self:
        self.bus.on_restored(self.reconciler.now)
        await self.outbox.start()
        await self.room_slots.start()
        await self.presence.start()
        await self.reconciler.start()
        await self.rate_sync.start()
        return self

    async def stop(self) -> None:
        """Wait for the outcomes of what the members sent, then give back what this process holds.

        Call it after all members have left.
        """
        await self.outbox.stop(settings.CHANNELBOX_WORK_EXPIRY)
        await self.rate_sync.stop()
        await self.reconciler.stop()
        await self.presence.stop()
        await self.room_slots.stop()
        await self.hub.stop()
        self.bus.shared.pop(ChatRuntime, None)
