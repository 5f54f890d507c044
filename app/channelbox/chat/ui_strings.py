"""The words that the chat's scripts show: handed to them by the page, so that they are translated like any other.

`{n}` and the like are filled in by the script. No plural forms: each sentence is made to do without.
"""

from django.utils.translation import gettext as _


def catalogue() -> dict[str, str]:
    """Every sentence by its key, in the reader's language."""
    return {
        # The state of the connection: a word for the corner, a sentence for the notice under the header
        "connecting": _("connecting"),
        "connected": _("connected"),
        "reconnecting": _("reconnecting in {s} s"),
        "reconnecting_now": _("reconnecting"),
        "catching_up": _("catching up ({n} missed)"),
        "signed_out": _("signed out"),
        "full": _("room full"),
        "not_allowed": _("not admitted"),
        "now": _("Now"),
        "why_lost": _("The connection was lost. It comes back by itself; what you send waits here."),
        "why_restart": _("The server is restarting. The connection comes back by itself; what you send waits here."),
        "why_later": _("The server is busy. The connection comes back by itself; what you send waits here."),
        "why_full": _("This room is full. As soon as somebody leaves there is a place: this page keeps trying."),
        "why_signed_out": _("You are signed out. Sign in, here or in another tab, and this page goes on."),
        "why_not_allowed": _("You may not enter this room, or it was closed. Ask who runs this installation."),
        "why_origin": _(
            "The server does not accept pages from this address. "
            "Who runs this installation adds it to CHANNELBOX_ORIGINS, with scheme and port."
        ),
        "why_too_much": _("Too many requests. Reconnecting in a moment."),
        "sign_in": _("Sign in"),
        "try_again": _("Try again"),
        "other_rooms": _("Other rooms"),
        # Messages
        "waiting": _("waits for the connection"),
        "elsewhere": _("waits in another tab"),
        "sending": _("sending"),
        "slow": _("sent, not stored yet"),
        "later": _("the server is busy: again in {s} s"),
        "failed": _("Not sent: {reason}"),
        "code_empty": _("there is nothing in it"),
        "code_too_long": _("it is too long"),
        "code_too_big": _("it is too big"),
        "code_not_allowed": _("you may not write here"),
        "code_no_room": _("the room is gone"),
        "code_room_full": _("the room is full"),
        "code_sign_in": _("you are signed out"),
        "announcement": _("Announcement"),
        "more": _("More for the message of {user}"),
        "removed": _("Removed by {user}"),
        "not_removed": _("Not removed: {reason}"),
        "code_no_message": _("there is no such message"),
        "dismiss": _("Dismiss"),
        "retry": _("Send again"),
        "edit": _("Edit"),
        "today": _("Today"),
        "yesterday": _("Yesterday"),
        "beginning": _("This is the beginning of the room."),
        "empty": _("Nobody has said anything here yet. Write the first message below."),
        "opening": _("Opening the room"),
        "loading": _("Loading older messages"),
        "list_busy": _("The server is busy. This list may be out of date; it is asked for again."),
        "load_busy": _("The server is busy. Older messages are asked for again when it has time."),
        "load_failed": _("Older messages could not be loaded. They are asked for again in a moment."),
        "new_messages": _("{n} new"),
        "newest": _("To the newest"),
        "newer_later": _("Newer messages follow in a moment"),
        "left": _("characters left: {n}"),
        "over": _("characters too many: {n}"),
        # People
        "here": _("{n} here"),
        "here_unknown": _("Available after reconnecting."),
        "here_many": _("{n} people are here: too many to list."),
        "typing_one": _("{a} is typing"),
        "typing_two": _("{a} and {b} are typing"),
        "typing_many": _("several people are typing"),
    }
