"""A message a second to every room: whether a crowd of this size is held."""

import asyncio
import time

from bench.generator import Crowd

EVERY = 1.0  # s
PATIENCE = 15.0  # s for what was late


async def holds(crowd: Crowd, messages: int) -> bool:
    """Whether so many messages, one a second to each room, were all heard by everybody before the next was due."""
    late = 0
    dropped = crowd.dropped

    def done(latency: float) -> None:
        nonlocal late
        late += latency > EVERY

    due = time.perf_counter()
    for turn in range(messages):
        for room in crowd.rooms:
            crowd.say(room, turn, done)
        due += EVERY
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if late or crowd.flying:
            break
    end = time.perf_counter() + PATIENCE
    while crowd.flying and time.perf_counter() < end:  # the next run begins with nothing under way
        late += 1
        await asyncio.sleep(0.05)
    late += len(crowd.flying)
    crowd.flying.clear()
    return not late and crowd.dropped == dropped
