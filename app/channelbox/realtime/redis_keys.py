"""Every name that this project uses in Redis, and the name of this process."""

import functools
import secrets
import time

from django.conf import settings


@functools.cache
def process_name() -> str:
    """This process's name in the whole cluster: node, instance, start in ms and a random part."""
    start = int(time.time() * 1000)
    return f"{settings.CHANNELBOX_NODE}:{settings.CHANNELBOX_INSTANCE}:{start}-{secrets.token_hex(4)}"


def _key(*parts: str) -> str:
    return ":".join((settings.CHANNELBOX_REDIS_PREFIX, *parts))


# --- Pub/sub channels


def room(name: str) -> str:
    """Frames for the members of a room, wherever they are."""
    return _key("room", name)


def group(name: str) -> str:
    """A group of the default channel layer."""
    return _key("group", name)


def inbox(prefix: str) -> str:
    """What is sent to single channels of one process of the default channel layer."""
    return _key("inbox", prefix)


def probe(process: str) -> str:
    """The process's own probe of its subscription."""
    return _key("probe", process)


def dashboard() -> str:
    """Asks every process to push the dashboard now."""
    return _key("dashboard")


def rates() -> str:
    """What persons and addresses have sent through each process."""
    return _key("rates")


def revoked() -> str:
    """Whose rights have changed: their sockets are looked at anew."""
    return _key("revoked")


# --- Lists, hashes and strings


def queue(channel: str) -> str:
    """A worker channel's list."""
    return _key("queue", channel)


def bulk_queue(channel: str) -> str:
    """A worker channel's other list: entries of senders that have much to send."""
    return _key("bulk", channel)


def channel(name: str) -> str:
    """A channel of the default channel layer that any process may receive from: a list."""
    return _key("channel", name)


def unread(prefix: str) -> str:
    """Hash: how many messages sent to each single channel of an inbox have not been received."""
    return _key("unread", prefix)


def lease(process: str) -> str:
    """A process is alive as long as this exists."""
    return _key("lease", process)


def places(name: str) -> str:
    """Hash: how many members of a room each process holds."""
    return _key("places", name)


def people(name: str) -> str:
    """Hash: who is in a room, by process."""
    return _key("people", name)


def reports() -> str:
    """Hash: the newest report of each process."""
    return _key("reports")


def series() -> str:
    """List: a sample of the whole installation for each second."""
    return _key("series")


def tick(second: int) -> str:
    """Taken by the process that writes the sample of this second."""
    return _key("tick", str(second))


def dashboard_gate() -> str:
    """Exists for a moment after the dashboard was asked for an update."""
    return _key("dashboard", "asked")


def cleanup() -> str:
    """Held by the worker that removes what was deleted."""
    return _key("cleanup")


def attempts(what: str) -> str:
    """Failed sign-ins of an address or a name."""
    return _key("attempts", what)
