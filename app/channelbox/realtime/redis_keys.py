"""Every name that channelbox uses in Redis, and the name of this process."""

import functools
import secrets
import time

from django.conf import settings


@functools.cache
def process_name() -> str:
    """Return the cluster-wide name of this process: node, instance, start time in ms and a random part."""
    start = int(time.time() * 1000)
    return f"{settings.CHANNELBOX_NODE}:{settings.CHANNELBOX_INSTANCE}:{start}-{secrets.token_hex(4)}"


def _key(*parts: str) -> str:
    return ":".join((settings.CHANNELBOX_REDIS_PREFIX, *parts))


# --- Pub/sub channels


def room(name: str) -> str:
    """Frames for the members of a room, in all processes."""
    return _key("room", name)


def group(name: str) -> str:
    """Messages to a group of the default channel layer; also the set of the shared channels in it."""
    return _key("group", name)


def inbox(prefix: str) -> str:
    """Messages to the process-local channels of one process, in the default channel layer."""
    return _key("inbox", prefix)


def probe(process: str) -> str:
    """Probes by which a process checks its own subscription."""
    return _key("probe", process)


def dashboard() -> str:
    """Requests to all processes to push the dashboard now."""
    return _key("dashboard")


def rates() -> str:
    """Publishes of what persons and addresses sent through each process, for the rate limits."""
    return _key("rates")


def revoked() -> str:
    """Changes of rights: the connections concerned are checked again."""
    return _key("revoked")


# --- Lists, hashes and strings


def queue(channel: str) -> str:
    """List: the entries of a worker channel."""
    return _key("queue", channel)


def bulk_queue(channel: str) -> str:
    """Second list of a worker channel: entries of senders that have much to send."""
    return _key("bulk", channel)


def channel(name: str) -> str:
    """List: the messages of a shared channel of the default channel layer, which any process may receive from."""
    return _key("channel", name)


def unread(prefix: str) -> str:
    """Hash: the number of messages sent to each process-local channel of an inbox and not received yet."""
    return _key("unread", prefix)


def lease(process: str) -> str:
    """Lease of a process, which is alive as long as this exists."""
    return _key("lease", process)


def places(name: str) -> str:
    """Hash: the number of slots in a room that each process holds."""
    return _key("places", name)


def people(name: str) -> str:
    """Hash: the people in a room, by process."""
    return _key("people", name)


def reports() -> str:
    """Hash: the newest report of each process."""
    return _key("reports")


def series() -> str:
    """List: one sample of the whole installation per second."""
    return _key("series")


def tick(second: int) -> str:
    """Lock of the process that writes the sample of this second."""
    return _key("tick", str(second))


def dashboard_gate() -> str:
    """Exists for a moment after an update of the dashboard was requested."""
    return _key("dashboard", "asked")


def cleanup() -> str:
    """Lock of the worker that removes what was deleted."""
    return _key("cleanup")


def attempts(what: str) -> str:
    """Failed sign-ins of an address or a name."""
    return _key("attempts", what)
