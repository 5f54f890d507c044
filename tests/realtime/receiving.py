"""What a channel of a layer receives, and that it receives nothing."""

import asyncio
from typing import Any

import pytest

from channelbox.realtime.layer import ChannelLayer


async def next_of(layer: ChannelLayer, channel: str) -> Any:
    return await asyncio.wait_for(layer.receive(channel), 5)


async def nothing_for(layer: ChannelLayer, *channels: str) -> None:
    """Everything published until now has been heard, and nothing of it was for these."""
    fence = await layer.new_channel()
    await layer.group_add("fence", fence)
    await layer.group_send("fence", {"type": "fence"})
    await layer.send(fence, {"type": "fence"})
    for _ in range(2):
        assert (await next_of(layer, fence))["type"] == "fence"
    for channel in channels:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive(channel), 0.01)
