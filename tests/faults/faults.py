"""Faults, and random sequences of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

RECOVERY_SECONDS = 15.0
ONE_PROCESS_SECONDS = 5.0

Strike = Callable[[random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """One fault. `strike` causes it, and returns when the fault itself is over and only recovery is left.

    parts: the parts that it affects; faults without a common part may strike together. limit: how many seconds after
    its end any client may lag behind. seconds: its approximate duration, including recovery.
    """

    name: str
    parts: frozenset[str]
    strike: Strike
    limit: float = RECOVERY_SECONDS
    seconds: float = 12.0


def both(one: Fault, other: Fault) -> Fault:
    """Combine two faults into one that starts both within a second."""

    async def strike(rng: random.Random) -> None:
        async def later() -> None:
            await asyncio.sleep(rng.random())
            await other.strike(rng)

        await asyncio.gather(one.strike(rng), later())

    return Fault(
        f"{one.name} + {other.name}",
        one.parts | other.parts,
        strike,
        max(one.limit, other.limit, RECOVERY_SECONDS),
        max(one.seconds, other.seconds) + 3,
    )


def pair(faults: Sequence[Fault], rng: random.Random) -> Fault:
    """Combine two random faults that have no part in common."""
    pairs = [(a, b) for a in faults for b in faults if a is not b and not a.parts & b.parts]
    return both(*rng.choice(pairs))


def draw(faults: Sequence[Fault], rng: random.Random, seconds: float) -> list[Fault]:
    """Return as many faults as fit into `seconds`, in random order, including one pair."""
    drawn = [pair(faults, rng)]
    for fault in rng.sample(faults, len(faults)):
        if sum(each.seconds for each in drawn) + fault.seconds <= seconds:
            drawn.append(fault)
    rng.shuffle(drawn)
    return drawn


def everything(faults: Sequence[Fault], rng: random.Random) -> list[Fault]:
    """Return all faults and three pairs, in random order."""
    drawn = [*faults, *(pair(faults, rng) for _ in range(3))]
    rng.shuffle(drawn)
    return drawn
