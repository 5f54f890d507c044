"""The dashboard's WebSocket consumer."""

from typing import Any

from django.contrib.auth.models import AnonymousUser

from channelbox.accounts.revocation import RevocationMonitor
from channelbox.dashboard.access import DashboardGrant, refusal
from channelbox.dashboard.broadcaster import Broadcaster
from channelbox.realtime.consumer import RealtimeConsumer


class DashboardConsumer(RealtimeConsumer):
    """Sends the series on connecting, then new figures every second. Any frame requests them at once, for all clients.

    Open to everybody who may chat, or to administrators only (CHANNELBOX_DASHBOARD).
    """

    broadcaster: Broadcaster | None = None

    async def enter(self) -> None:
        user = self.scope.get("user") or AnonymousUser()
        if (refused := refusal(user)) is not None:
            raise refused
        self.count(f"u:{user.pk}" if user.is_authenticated else None, guest=not user.is_authenticated)
        broadcaster = Broadcaster.current()
        await broadcaster.join(self.member)
        if self._gone:
            # The client disconnected while the welcome was read.
            broadcaster.leave(self.member)
        else:
            self.broadcaster = broadcaster
            self.monitor = RevocationMonitor.current()
            self.grant = DashboardGrant.of(self.scope, self.refuse)
            self.monitor.admit(self.grant)

    async def _receive(self, content: Any) -> None:
        # Any frame is a request for an update; an invalid one also gets an error.
        if self.broadcaster is not None:
            self.broadcaster.request_update()
        await super()._receive(content)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        """Ignore the content: every frame is only a request for an update, see `_receive`."""

    def left(self) -> None:
        if self.broadcaster is not None:
            self.broadcaster.leave(self.member)
            self.monitor.leave(self.grant)
            del self.grant  # it refers to this consumer
            self.broadcaster = None
