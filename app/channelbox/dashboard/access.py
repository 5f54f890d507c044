"""Access control of the dashboard (CHANNELBOX_DASHBOARD), for its page, its connections and the menu."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from channelbox.accounts.models import User
from channelbox.accounts.revocation import SocketGrant
from channelbox.realtime.errors import Close, Code, Refused


def requires_sign_in(user: User | AnonymousUser) -> bool:
    """Return whether this person is a guest who has to sign in first."""
    return not (user.is_authenticated or (settings.CHANNELBOX_GUESTS and settings.CHANNELBOX_DASHBOARD == "users"))


def may_view(user: User | AnonymousUser) -> bool:
    """Return whether this person may see the dashboard: everybody who may chat, or administrators only."""
    return not requires_sign_in(user) and (settings.CHANNELBOX_DASHBOARD == "users" or user.is_staff)


def refusal(user: User | AnonymousUser) -> Refused | None:
    """Return why this person's connection is refused, or None."""
    if requires_sign_in(user):
        return Refused(Code.SIGN_IN, "Sign in first.", close=Close.SIGN_IN)
    return None if may_view(user) else _not_staff()


@dataclass(eq=False, slots=True)
class DashboardGrant(SocketGrant):
    """The grant of a connection of the dashboard."""


def staff_only(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
    """Rule of the revocation monitor: the user is no longer an administrator, where the dashboard is for them only."""
    looking = [grant for grant in grants if isinstance(grant, DashboardGrant)]
    if settings.CHANNELBOX_DASHBOARD != "staff" or not looking:
        return {}
    staff = User.objects.filter(pk__in={grant.user for grant in looking}, is_staff=True)
    keys = set(staff.values_list("pk", flat=True))
    return {grant: _not_staff() for grant in looking if grant.user not in keys}


def _not_staff() -> Refused:
    return Refused(Code.NOT_ALLOWED, "The dashboard is for administrators only.", close=Close.NOT_ALLOWED)
