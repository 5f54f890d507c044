"""The words that the dashboard's scripts show: handed to them by the page, so that they are translated."""

from django.utils.translation import gettext as _


def catalogue() -> dict[str, str]:
    """Every sentence by its key, in the reader's language; `{n}` and the like are filled in by the script."""
    return {
        "connecting": _("Connecting"),
        "connected": _("Live"),
        "quiet": _("No data"),
        "reconnecting": _("Reconnecting in {s} s"),
        "reconnecting_now": _("Reconnecting"),
        "signed_out": _("Signed out"),
        "not_allowed": _("No access"),
        "now": _("Reconnect now"),
        "sign_in": _("Sign in"),
        "try_again": _("Try again"),
        "why_lost": _("Connection lost. Reconnecting automatically."),
        "why_restart": _("The server is restarting. Reconnecting automatically."),
        "why_later": _("The server is busy. Reconnecting automatically."),
        "why_full": _("The server is full. This page keeps trying."),
        "why_too_much": _("Too many requests. Reconnecting in a moment."),
        "why_signed_out": _("You are signed out. Sign in here or in another tab to continue."),
        "why_not_allowed": _("You don't have access to the dashboard. Contact your administrator."),
        "why_origin": _(
            "The server does not accept pages from this address. "
            "An administrator must add it to CHANNELBOX_ORIGINS, with scheme and port."
        ),
        # The age of what is shown
        "age": _("{t} ago"),
        "stale": _("Stale, {t}"),
        "dead": _(
            "No data since {at}. The figures show the state at that time, not the current state. "
            "This page keeps trying. If this persists, contact your administrator."
        ),
        "never": _("No data received yet. This page keeps trying."),
        "seconds": _("{n} s"),
        "minutes": _("{n} min"),
        "hours": _("{n} h"),
        "days": _("{n} d"),
        "two_units": _("{a} {b}"),
        # Figures
        "running": _("Nodes: {nodes}, processes: {processes}"),
        "delivered": _("Delivered: {n}/s"),
        "p99": _("p99: {ms} ms"),
        "nothing_stored": _("No messages in the last 10 s"),
        "unknown": _("Currently unknown"),
        "p50_name": _("p50"),
        "p99_name": _("p99"),
        "queue_name": _("Waiting"),
        "more": _("{n} more"),
        # Processes
        "state_well": _("Well"),
        "state_lagging": _("Lagging"),
        "state_draining": _("Draining"),
        "state_stale": _("Stale"),
        "state_gone": _("Gone"),
        "all_well": _("All {n} well"),
        "some_unwell": _("{n} of {all} not well"),
        "none": _("No process has reported yet."),
    }
