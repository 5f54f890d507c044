"""Helpers to receive from a channel of a layer, or to assert that it receives nothing."""

import asyncio
from typing import Any

import pytest

from channelbox.realtime.layer import ChannelLayer


async def next_of(layer: ChannelLayer, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 5)


async def assert_nothing_for(layer: ChannelLayer, *channels: str) -> None:
    """Wait until everything published so far is delivered, and assert that nothing of it was for these channels."""
    fence = await layer.new_channel()
    await layer.group_add("fence", fence)
    await layer.group_send("fence", {"type": "fence"})
    await layer.send(fence, {"type": "fence"})
    for _ in range(2):
        assert (await next_of(layer, fence))["type"] == "fence"
    for channel in channels:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.01)
