"""The words that the chat's scripts show: handed to them by the page, so that they are translated like any other.

`{n}` and the like are filled in by the script. No plural forms: each sentence is made to do without.
"""

from django.utils.translation import gettext as _


def catalogue() -> dict[str, str]:
    """Every sentence by its key, in the reader's language."""
    return {
        # The state of the connection: a word for the corner, a sentence for the notice under the header
        "connecting": _("Connecting"),
        "connected": _("Connected"),
        "reconnecting": _("Reconnecting in {s} s"),
        "reconnecting_now": _("Reconnecting"),
        "catching_up": _("Catching up ({n} missed)"),
        "signed_out": _("Signed out"),
        "full": _("Room full"),
        "not_allowed": _("No access"),
        "now": _("Reconnect now"),
        "why_lost": _("Connection lost. Reconnecting automatically. Messages that you send wait here until then."),
        "why_restart": _(
            "The server is restarting. Reconnecting automatically. Messages that you send wait here until then."
        ),
        "why_later": _("The server is busy. Reconnecting automatically. Messages that you send wait here until then."),
        "why_full": _("This room is full. This page keeps trying and connects when somebody leaves."),
        "why_signed_out": _("You are signed out. Sign in here or in another tab to continue."),
        "why_not_allowed": _("You don't have access to this room, or it was closed. Contact your administrator."),
        "why_origin": _(
            "The server does not accept pages from this address. "
            "An administrator must add it to CHANNELBOX_ORIGINS, with scheme and port."
        ),
        "why_too_much": _("Too many requests. Reconnecting in a moment."),
        "sign_in": _("Sign in"),
        "try_again": _("Try again"),
        "other_rooms": _("Other rooms"),
        # Messages
        "waiting": _("Waiting for the connection"),
        "elsewhere": _("Waiting in another tab"),
        "sending": _("Sending"),
        "slow": _("Waiting for the server to confirm"),
        "later": _("The server is busy. Trying again in {s} s"),
        "failed": _("Not sent: {reason}"),
        "code_empty": _("the message is empty"),
        "code_too_long": _("the message is too long"),
        "code_too_big": _("the message is too large"),
        "code_not_allowed": _("you don't have permission"),
        "code_no_room": _("the room no longer exists"),
        "code_room_full": _("the room is full"),
        "code_sign_in": _("you are signed out"),
        "announcement": _("Announcement"),
        "more": _("Actions for the message from {user}"),
        "removed": _("Removed by {user}"),
        "not_removed": _("Not removed: {reason}"),
        "code_no_message": _("the message does not exist"),
        "dismiss": _("Dismiss"),
        "retry": _("Send again"),
        "edit": _("Edit"),
        "today": _("Today"),
        "yesterday": _("Yesterday"),
        "beginning": _("This is the beginning of the room."),
        "empty": _("No messages yet. Write the first one below."),
        "opening": _("Opening the room…"),
        "loading": _("Loading older messages…"),
        "list_busy": _("The server is busy. This list may be out of date; it is updated automatically."),
        "load_busy": _("The server is busy. Messages will load in a moment."),
        "load_failed": _("Messages could not be loaded. Trying again in a moment."),
        "new_messages": _("{n} new"),
        "newest": _("Jump to the newest"),
        "newer_later": _("Newer messages will load in a moment"),
        "left": _("Characters left: {n}"),
        "over": _("Characters over the limit: {n}"),
        # People
        "here": _("{n} here"),
        "here_unknown": _("Available after reconnecting."),
        "here_many": _("{n} people are here, too many to list."),
        "typing_one": _("{a} is typing"),
        "typing_two": _("{a} and {b} are typing"),
        "typing_many": _("Several people are typing"),
    }
