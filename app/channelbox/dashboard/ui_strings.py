"""The words that the dashboard's scripts show: handed to them by the page, so that they are translated."""

from django.utils.translation import gettext as _


def catalogue() -> dict[str, str]:
    """Every sentence by its key, in the reader's language; `{n}` and the like are filled in by the script."""
    return {
        "connecting": _("connecting"),
        "connected": _("live"),
        "quiet": _("no news"),
        "reconnecting": _("reconnecting in {s} s"),
        "reconnecting_now": _("reconnecting"),
        "signed_out": _("signed out"),
        "not_allowed": _("not admitted"),
        "now": _("Now"),
        "sign_in": _("Sign in"),
        "try_again": _("Try again"),
        "why_lost": _("The connection was lost. It comes back by itself."),
        "why_restart": _("The server is restarting. The connection comes back by itself."),
        "why_later": _("The server is busy. The connection comes back by itself."),
        "why_full": _("The server is full. This page keeps trying."),
        "why_too_much": _("Too many requests. Reconnecting in a moment."),
        "why_signed_out": _("You are signed out. Sign in, here or in another tab, and this page goes on."),
        "why_not_allowed": _("You may not see the dashboard. Ask who runs this installation."),
        "why_origin": _(
            "The server does not accept pages from this address. "
            "Who runs this installation adds it to CHANNELBOX_ORIGINS, with scheme and port."
        ),
        # The age of what is shown
        "age": _("{t} old"),
        "stale": _("stale, {t}"),
        "dead": _(
            "No news since {at}. What you see is how things were then, not how they are now. "
            "This page asks again by itself."
        ),
        "never": _("No figures have come yet. The server is asked again and again."),
        "seconds": _("{n} s"),
        "minutes": _("{n} min"),
        "hours": _("{n} h"),
        "days": _("{n} d"),
        "two_units": _("{a} {b}"),
        # Figures
        "running": _("nodes: {nodes}, processes: {processes}"),
        "delivered": _("{n} delivered a second"),
        "p99": _("99 of 100 within {ms} ms"),
        "nothing_stored": _("nothing stored just now"),
        "unknown": _("not known just now"),
        "p50_name": _("half of them"),
        "p99_name": _("99 of 100"),
        "queue_name": _("waiting"),
        "more": _("{n} more"),
        # Processes
        "state_well": _("well"),
        "state_lagging": _("lagging"),
        "state_draining": _("going away"),
        "state_stale": _("no news"),
        "state_gone": _("gone"),
        "all_well": _("all {n} well"),
        "some_unwell": _("{n} of {all} not well"),
        "none": _("No process has reported yet."),
    }
