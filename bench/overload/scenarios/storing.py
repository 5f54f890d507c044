"""Twice as many messages as can be stored: how many are stored, and whether every sender gets an answer."""

import asyncio
import itertools
import time
from collections import Counter

from bench import frames
from bench.overload.client import Client
from bench.overload.outcome import Outcome
from bench.overload.site import Site

TITLE = "twice as many messages as can be stored"
ROOMS, EACH = 200, 2
IN_FLIGHT = 4  # per sender, while the peak rate is measured
SECONDS = 15.0
STEP_SECONDS = 0.02
MIN_SHARE = 0.8  # of the peak rate
TIMEOUT_SECONDS = 60.0  # until every message is answered


async def run(site: Site) -> Outcome:
    rooms = site.rooms(ROOMS)
    senders = [await Client.connect(site.address, room, site.person()) for room in rooms for _ in range(EACH)]
    await asyncio.gather(*(sender.entered for sender in senders))
    numbers = itertools.count()
    try:
        peak = await _peak(senders, numbers, site.seconds(SECONDS))
        sent, goodput, refused, quiet = await _flood(senders, numbers, 2 * peak, site.seconds(SECONDS))
    finally:
        for sender in senders:
            sender.transport.abort()
    unanswered = sum(len(sender.waiting) for sender in senders)
    refusals = ", ".join(f"{count} {code}" for code, count in refused.items()) or "none"
    outcome = Outcome()
    outcome.sentences += [
        f"stored at most {peak:.0f}/s; of {sent / site.seconds(SECONDS):.0f}/s sent, {goodput:.0f}/s were stored "
        f"({goodput / peak:.0%} of the most)",
        f"refused with their id: {refusals}; without an answer: {unanswered}",
        f"all were answered {quiet:.1f} s after the last was sent",
    ]
    outcome.expect(goodput >= MIN_SHARE * peak, f"less than {MIN_SHARE:.0%} of the peak was stored")
    outcome.expect(not unanswered, f"{unanswered} messages were never answered")
    return outcome


async def _peak(senders: list[Client], numbers: "itertools.count[int]", seconds: float) -> float:
    """Return the messages stored per second if each sender sends the next as soon as an answer allows it."""
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds
    for sender in senders:

        def again(wait: float, sender: Client = sender) -> None:
            if wait:
                loop.call_later(wait, again, 0, sender)
            elif time.perf_counter() < end:
                _say(sender, numbers)

        sender.answered = again
        for _ in range(IN_FLIGHT):
            _say(sender, numbers)
    begin = await _settled(senders, end - seconds * 2 / 3)
    stored, at = sum(sender.stored for sender in senders), begin
    await asyncio.sleep(end - time.perf_counter())
    peak = (sum(sender.stored for sender in senders) - stored) / (time.perf_counter() - at)
    for sender in senders:
        sender.answered = None
    await _answered(senders)
    return peak


async def _settled(senders: list[Client], at: float) -> float:
    await asyncio.sleep(max(0.0, at - time.perf_counter()))
    return time.perf_counter()


async def _flood(
    senders: list[Client], numbers: "itertools.count[int]", rate: float, seconds: float
) -> tuple[int, float, Counter[str], float]:
    """Send at this rate, whatever the answers.

    Returns the number sent, the number stored per second, refusals by code, and the seconds until the last answer.
    """
    before, refused_before = sum(sender.stored for sender in senders), _refused(senders)
    started = time.perf_counter()
    turns = itertools.cycle(senders)
    sent = 0
    while (passed := time.perf_counter() - started) < seconds:
        while sent < rate * passed:
            _say(next(turns), numbers)
            sent += 1
        await asyncio.sleep(STEP_SECONDS)
    goodput = (sum(sender.stored for sender in senders) - before) / (time.perf_counter() - started)
    quiet = await _answered(senders)
    return sent, goodput, _refused(senders) - refused_before, quiet


async def _answered(senders: list[Client]) -> float:
    """Wait until no message is unanswered, or for `TIMEOUT_SECONDS`. Returns the seconds that it waited."""
    started = time.perf_counter()
    while any(sender.waiting for sender in senders) and time.perf_counter() - started < TIMEOUT_SECONDS:
        await asyncio.sleep(STEP_SECONDS)
    return time.perf_counter() - started


def _refused(senders: list[Client]) -> Counter[str]:
    return sum((sender.refused for sender in senders), Counter())


def _say(sender: Client, numbers: "itertools.count[int]") -> None:
    number = next(numbers)
    sender.say(f"o{number}", frames.message(number))
