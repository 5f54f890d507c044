"""The dashboard's socket."""

from typing import Any

from django.contrib.auth.models import AnonymousUser

from channelbox.accounts.revocation import RevocationMonitor
from channelbox.dashboard.access import DashboardGrant, refusal
from channelbox.dashboard.broadcaster import Broadcaster
from channelbox.realtime.consumer import RealtimeConsumer


class DashboardConsumer(RealtimeConsumer):
    """Sends the series on connecting, then the newest figures every second; any frame asks for them at once, for all.

    Open to everybody who may talk, or to administrators alone (CHANNELBOX_DASHBOARD).
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
            # It left while the welcome was read.
            broadcaster.leave(self.member)
        else:
            self.broadcaster = broadcaster
            self.monitor = RevocationMonitor.current()
            self.grant = DashboardGrant.of(self.scope, self.refuse)
            self.monitor.admit(self.grant)

    async def _receive(self, content: Any) -> None:
        # Any frame asks; one that is not what the protocol speaks is told so besides.
        if self.broadcaster is not None:
            self.broadcaster.ask()
        await super()._receive(content)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        """Nothing that a client can say means more than a question."""

    def left(self) -> None:
        if self.broadcaster is not None:
            self.broadcaster.leave(self.member)
            self.monitor.leave(self.grant)
            del self.grant  # which refers to this consumer
            self.broadcaster = None
