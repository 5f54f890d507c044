"""The words that the dashboard's scripts show: handed to them by the page, so that they are translated."""

from django.utils.translation import gettext as _


def catalogue() -> dict[str, str]:
    """Every sentence by its key, in the reader's language; `{n}` and the like are filled in by the script."""
    return {
        "connecting": _("connecting"),
        "connected": _("connected"),
        "reconnecting": _("reconnecting in {s} s"),
        "reconnecting_now": _("reconnecting"),
        "signed_out": _("signed out"),
        "not_allowed": _("not admitted"),
        "now": _("Now"),
        "sign_in": _("Sign in"),
    }
