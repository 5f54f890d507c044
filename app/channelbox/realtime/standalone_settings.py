"""Defaults of the settings that the channel layer reads, for a Channels project without channelbox's settings."""

import os
import socket

from django.conf import settings

DEFAULTS = {
    "CHANNELBOX_REDIS_PREFIX": "channelbox",
    "CHANNELBOX_REDIS_HOSTS": [("localhost", 6379)],  # as in channels_redis
    "CHANNELBOX_NODE": socket.gethostname(),
    "CHANNELBOX_INSTANCE": f"process@{os.getpid()}",
}


def complete_settings() -> None:
    """Set each setting that the project does not have to its default."""
    for name, default in DEFAULTS.items():
        if not hasattr(settings, name):
            setattr(settings, name, default)
