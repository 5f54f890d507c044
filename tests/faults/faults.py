"""What may go wrong, and in which order it does."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

RECOVERY_SECONDS = 15.0
ONE_PROCESS_SECONDS = 5.0

Strike = Callable[[random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `strike` returns when the fault itself is over; what is left is recovery.

    parts: what it touches; two that share none may strike together. limit: the longest that anybody may be behind
    after its end, in seconds. seconds: how long it takes, recovery included, about.
    """

    name: str
    parts: frozenset[str]
    strike: Strike
    limit: float = RECOVERY_SECONDS
    seconds: float = 12.0


def both(one: Fault, other: Fault) -> Fault:
    """Two at once, begun within a second of each other."""

    async def strike(chance: random.Random) -> None:
        async def later() -> None:
            await asyncio.sleep(chance.random())
            await other.strike(chance)

        await asyncio.gather(one.strike(chance), later())

    return Fault(
        f"{one.name} + {other.name}",
        one.parts | other.parts,
        strike,
        max(one.limit, other.limit, RECOVERY_SECONDS),
        max(one.seconds, other.seconds) + 3,
    )


def pair(faults: Sequence[Fault], chance: random.Random) -> Fault:
    """Two of these that do not meet in one part."""
    pairs = [(a, b) for a in faults for b in faults if a is not b and not a.parts & b.parts]
    return both(*chance.choice(pairs))


def draw(faults: Sequence[Fault], chance: random.Random, seconds: float) -> list[Fault]:
    """As many as fit into that time, in any order, one pair among them."""
    drawn = [pair(faults, chance)]
    for fault in chance.sample(faults, len(faults)):
        if sum(each.seconds for each in drawn) + fault.seconds <= seconds:
            drawn.append(fault)
    chance.shuffle(drawn)
    return drawn


def everything(faults: Sequence[Fault], chance: random.Random) -> list[Fault]:
    """All of them and three pairs, in any order."""
    drawn = [*faults, *(pair(faults, chance) for _ in range(3))]
    chance.shuffle(drawn)
    return drawn
