"""The layer in a Channels project that uses nothing else of channelbox: it needs no settings but its hosts."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.servers import RedisServer

import channelbox

PROJECT = """
import asyncio, sys

import django
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channelbox.realtime.layer.ChannelLayer",
            "CONFIG": {"hosts": [sys.argv[1]]},
        }
    },
)
django.setup()
layer = get_channel_layer()


async def talk():
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_add("group", "jobs")
    await layer.group_send("group", {"type": "hello"})
    await layer.send(channel, {"type": "single"})
    print([(await layer.receive(name))["type"] for name in (channel, channel, "jobs")])
    await layer.group_discard("group", channel)
    await layer.close()


asyncio.run(asyncio.wait_for(talk(), 10))
async_to_sync(layer.group_send)("group", {"type": "from sync code"})
print(async_to_sync(layer.receive)("jobs")["type"])
"""


def test_hosts_are_the_only_required_configuration(redis_server: RedisServer, tmp_path: Path) -> None:
    project = tmp_path / "project.py"
    project.write_text(PROJECT)
    clean = {n: v for n, v in os.environ.items() if not n.startswith("CHANNELBOX_") and n != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, str(project), redis_server.url],
        env={**clean, "PYTHONPATH": str(Path(channelbox.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['hello', 'single', 'hello']", "from sync code"]
    assert not done.stderr
