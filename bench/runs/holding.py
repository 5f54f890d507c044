"""Tests whether a server keeps up with this many connections and one message per second in each room."""

import asyncio
import time

from bench.generator import Crowd

INTERVAL_SECONDS = 1.0
TIMEOUT_SECONDS = 15.0  # for late messages


async def holds(crowd: Crowd, messages: int) -> bool:
    """Send `messages` messages to each room, one per second.

    Returns whether everybody received each before the next was due, and no connection was lost.
    """
    late = 0
    dropped = crowd.dropped

    def done(latency: float) -> None:
        nonlocal late
        late += latency > INTERVAL_SECONDS

    due = time.perf_counter()
    for turn in range(messages):
        for room in crowd.rooms:
            crowd.say(room, turn, done)
        due += INTERVAL_SECONDS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if late or crowd.flying:
            break
    end = time.perf_counter() + TIMEOUT_SECONDS
    while crowd.flying and time.perf_counter() < end:  # so that the next run begins without messages in flight
        late += 1
        await asyncio.sleep(0.05)
    late += len(crowd.flying)
    crowd.flying.clear()
    return not late and crowd.dropped == dropped
