"""Who may look at the dashboard (CHANNELBOX_DASHBOARD): its page, its socket and the menu ask here."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from channelbox.accounts.models import User
from channelbox.accounts.revocation import SocketGrant
from channelbox.realtime.errors import Close, Code, Refused


def is_signed_in_enough(user: User | AnonymousUser) -> bool:
    """Return whether signing in, perhaps as somebody else, is not what is missing."""
    return user.is_authenticated or (settings.CHANNELBOX_GUESTS and settings.CHANNELBOX_DASHBOARD == "users")


def may_look(user: User | AnonymousUser) -> bool:
    """Return whether this person may: everybody who may talk, or administrators alone."""
    return is_signed_in_enough(user) and (settings.CHANNELBOX_DASHBOARD == "users" or user.is_staff)


def refusal(user: User | AnonymousUser) -> Refused | None:
    """Return why this person's socket is refused, or None."""
    if not is_signed_in_enough(user):
        return Refused(Code.SIGN_IN, "Sign in first.", close=Close.SIGN_IN)
    return None if may_look(user) else _not_staff()


@dataclass(eq=False, slots=True)
class DashboardGrant(SocketGrant):
    """The grant of a socket that shows the dashboard."""


def staff_only(grants: list[SocketGrant]) -> dict[SocketGrant, Refused]:
    """A rule of the monitor of all sockets: somebody who is no administrator any more."""
    looking = [grant for grant in grants if isinstance(grant, DashboardGrant)]
    if settings.CHANNELBOX_DASHBOARD != "staff" or not looking:
        return {}
    staff = User.objects.filter(pk__in={grant.user for grant in looking}, is_staff=True)
    keys = set(staff.values_list("pk", flat=True))
    return {grant: _not_staff() for grant in looking if grant.user not in keys}


def _not_staff() -> Refused:
    return Refused(Code.NOT_ALLOWED, "The dashboard is for administrators only.", close=Close.NOT_ALLOWED)
