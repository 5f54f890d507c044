"""Executes a plan, one server at a time, and collects the samples of all runs."""

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from rich.console import Console

from bench import plan
from bench.figures import Sample, percentile
from bench.generator import Busy, Crowd
from bench.peers.peer import Peer
from bench.runs.delivering import Delivered, deliver, paced
from bench.runs.holding import holds
from bench.runs.joining import Joined, join, restart

Step = tuple[str, Callable[[], Awaitable[None]]]  # description, and the function that does it

LOADED = 0.7  # of the highest message rate that was measured with any number in flight
SESSIONS_SIZE = 1000  # members when connects_per_s and connect_cpu_ms are measured


class Measuring:
    """The samples of all runs, and notes for the reader."""

    def __init__(self, peers: list[Peer], console: Console) -> None:
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self._peers = peers
        self._console = console
        self._began = time.monotonic()
        self._rooms = itertools.count(1)
        self._held: dict[str, int] = {}

    async def run(self, chosen: plan.Plan) -> None:
        left_out = []
        for what, step in self._steps(chosen):
            if time.monotonic() - self._began > chosen.seconds:
                left_out.append(what)
            else:
                await step()
        if left_out:
            self._note(f"Left out, since this took longer than on a quiet machine: {'; '.join(left_out)}")
        for server, size in self._held.items():
            self.samples.append(Sample("max_connections", server, size, size, "connections"))

    def _steps(self, chosen: plan.Plan) -> Iterator[Step]:
        """Yield all steps: in each round the servers take turns, and the highest expensive steps come last."""
        yield from self._visits(chosen, memory=False)
        for _ in range(chosen.storing_rounds):
            for peer in self._peers:
                yield f"storing, {peer.name}", partial(self._store, peer, chosen.storing_seconds)
        yield from self._visits(chosen, memory=True)
        for size in chosen.holding:
            for peer in self._peers:
                what = f"holding {size} connections, {peer.name}"
                yield what, partial(self._hold, peer, size, chosen.holding_messages)

    def _visits(self, chosen: plan.Plan, *, memory: bool) -> Iterator[Step]:
        for visit in chosen.visits:
            for turn in range(visit.rounds if visit.memory == memory else 0):
                messages = 0 if turn else chosen.holding_messages
                for peer in self._peers:
                    yield f"{visit.size} members, {peer.name}", partial(self._visit, peer, visit, messages)

    async def _visit(self, peer: Peer, visit: plan.Visit, holding_messages: int) -> None:
        if visit.memory:
            await restart(peer)
        crowd = Crowd(peer.address)
        try:
            joined = await join(peer, crowd, {self._room(): visit.size})
            self._say(peer, visit.size, f"{joined.connects_per_s:.0f} connects/s, {joined.memory_kb:.1f} KiB each")
            self._joined(peer, joined, visit)
            await deliver(peer, crowd, 1, 0)  # the first message includes one-time costs
            highest = 0.0
            for in_flight in visit.in_flight:
                result = await deliver(peer, crowd, in_flight, visit.seconds)
                self._delivered(peer, visit.size, in_flight, result)
                highest = max(highest, result.messages_per_s)
            if len(visit.in_flight) > 1:
                result = await paced(peer, crowd, LOADED * highest, visit.seconds)
                self._loaded(peer, visit.size, result)
            if holding_messages:
                self._keeps(peer, visit.size, await holds(crowd, holding_messages))
        finally:
            await crowd.close()

    async def _store(self, peer: Peer, seconds: float) -> None:
        each = plan.STORING_SIZE // plan.STORING_ROOMS
        crowd = Crowd(peer.address)
        try:
            await join(peer, crowd, {self._room(): each for _ in range(plan.STORING_ROOMS)})
            await deliver(peer, crowd, 1, 0)
            result = await deliver(peer, crowd, plan.STORING_IN_FLIGHT, seconds)
        finally:
            await crowd.close()
        if self._loses(peer, plan.STORING_SIZE, result):
            return
        stored = result.messages_per_s
        self._say(peer, plan.STORING_SIZE, f"{stored:.0f} messages/s in {plan.STORING_ROOMS} rooms")
        self._add(peer, "stored_per_s", plan.STORING_SIZE, stored, "1/s", result.busy)

    async def _hold(self, peer: Peer, size: int, messages: int) -> None:
        """Measure whether a larger crowd can be held.

        Skips a server that has not held the largest smaller crowd that any server held.
        """
        if self._held.get(peer.name, 0) < max((held for held in self._held.values() if held < size), default=0):
            return
        full, rest = divmod(size, plan.MAX_ROOM)
        sizes = {self._room(): plan.MAX_ROOM for _ in range(full)} | ({self._room(): rest} if rest else {})
        crowd = Crowd(peer.address)
        try:
            await join(peer, crowd, sizes)
            self._keeps(peer, size, await holds(crowd, messages))
        except ExceptionGroup as errors:
            first = errors.exceptions[0]
            self._note(f"{peer.name} does not take {size} connections: {str(first) or type(first).__name__}")
        finally:
            await crowd.close()

    # --- Results of a run

    def _joined(self, peer: Peer, joined: Joined, visit: plan.Visit) -> None:
        if visit.size == SESSIONS_SIZE:
            self._add(peer, "connects_per_s", visit.size, joined.connects_per_s, "1/s", joined.busy)
            self._add(peer, "connect_cpu_ms", visit.size, joined.cpu * 1000 / joined.people, "ms", joined.busy)
        if visit.memory:
            self._add(peer, "idle_memory_kb", visit.size, joined.memory_kb, "KiB", joined.busy)

    def _delivered(self, peer: Peer, size: int, in_flight: int, result: Delivered) -> None:
        if self._loses(peer, size, result):
            return
        p50, p99 = (percentile(result.latencies, share) * 1000 for share in (0.5, 0.99))
        words = (
            f"{in_flight:2} in flight: {result.cpu_for_100k:6.2f} CPU s for 100,000, p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        )
        self._say(peer, size, words, result.busy)
        self._add(peer, "delivery_p50_ms", size, p50, "ms", result.busy, in_flight)
        self._add(peer, "delivery_p99_ms", size, p99, "ms", result.busy, in_flight)
        figure = "delivery_cpu" if in_flight == plan.CPU_IN_FLIGHT else "delivery_cpu_at"
        self._add(peer, figure, size, result.cpu_for_100k, "s", result.busy, in_flight)

    def _loaded(self, peer: Peer, size: int, result: Delivered) -> None:
        if self._loses(peer, size, result):
            return
        p99 = percentile(result.latencies, 0.99) * 1000
        self._say(
            peer, size, f"{result.messages_per_s:.0f} messages/s, {LOADED:.0%} load: p99 {p99:.1f} ms", result.busy
        )
        self._add(peer, "loaded_p99_ms", size, p99, "ms", result.busy)

    def _loses(self, peer: Peer, size: int, result: Delivered) -> bool:
        if result.lost:
            self._note(f"{peer.name}, {size} members: {result.lost} messages did not reach all within half a minute")
        return result.lost > 0

    def _keeps(self, peer: Peer, size: int, held: bool) -> None:
        self._held.setdefault(peer.name, 0)
        if held:
            self._held[peer.name] = max(size, self._held[peer.name])
        self._say(peer, size, "held" if held else "not held with a message a second")

    def _add(
        self, peer: Peer, figure: str, size: int, value: float, unit: str, busy: Busy, in_flight: int | None = None
    ) -> None:
        self.samples.append(Sample(figure, peer.name, size, value, unit, busy.share, in_flight))

    def _room(self) -> str:
        return f"bench-{next(self._rooms)}"  # new for each run, as newcomers would be sent the history of an old one

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        self._console.print(f"  {sentence}")

    def _say(self, peer: Peer, size: int, words: str, busy: Busy | None = None) -> None:
        load = f", generator {busy.share:.0%}" if busy else ""
        self._console.print(f"{time.monotonic() - self._began:5.0f} s  {peer.name:20} {size:6}  {words}{load}")
