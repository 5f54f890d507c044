"""Fits the costs of the model to the results of `make bench-growth`."""

from collections.abc import Callable, Sequence

from bench.growth.sweeps import CALIBRATING, MEMBERS, ROOMS, Point
from bench.simulator.model import Costs

ALONE, BATCHED = CALIBRATING[0], CALIBRATING[-1]  # messages in flight, and thus in a batch
MIN_MEMBERS = 100  # with fewer a batch of 16 is not always full
# Share of a transaction's fixed cost in the worker that each room in it causes: assumed, not measured
ENTRY_SHARE = 0.25
# Share of a web process's fixed cost of a batch that is spent on receiving the publish: measured separately, by
# publishing to rooms of one member (22 to 37 us each, including the write to the member).
PUBLISH_SHARE = 0.06
TRIP = 0.0002  # s
MAX_SAY_US = 30.0  # anything above is work of the generator between messages, however few there are


def costs(points: Sequence[Point]) -> Costs:
    """Return the costs, fitted by two straight lines over the number of members: for single messages and for batches.

    Raises ValueError if there are too few points.

    A web process spends `push + publish + members * (write + (n - 1) * more) + n * take` on a batch of n messages. The
    slope of a line is the cost that depends on members, its intercept the rest. A write costs more if there are many
    members (their data is no longer in a near cache), so the intercept of the line alone would be negative. If rooms of
    one member were measured, their cost is the intercept.
    """
    own = [point for point in points if point.sweep == MEMBERS.name]
    alone = [point for point in own if point.in_flight == ALONE and point.at >= MIN_MEMBERS]
    batched = [point for point in own if point.in_flight == BATCHED and point.at >= MIN_MEMBERS]
    if len(alone) < 2 or len(batched) < 2:
        raise ValueError("make bench-growth has not measured the members; run: make bench-growth ARGS=members")
    n = BATCHED
    start, write = _line(alone, lambda point: point.web_us)
    if rooms := sorted(point.web_us for point in points if point.sweep == ROOMS.name):
        start = rooms[len(rooms) // 2]
        write = _mean(alone, lambda point: (point.web_us - start) / point.at)
    start_n, write_n = _line(batched, lambda point: point.web_us * n)
    say, hear = _line(alone, lambda point: point.generator_us)
    say = min(max(0.0, say), MAX_SAY_US)
    take = max(0.0, (start_n - start) / (n - 1))
    once = max(0.0, start - take)
    message, batch = _split(alone, batched, lambda point: point.worker_us)
    row, database = _split(alone, batched, lambda point: point.database_us)
    micro = 1e-6
    cpu = (take + once + _mean(alone, lambda point: point.worker_us + point.database_us) + say) * micro
    fewest = min((point for point in own if point.in_flight == ALONE), key=lambda point: point.at)
    return Costs(
        take=take * micro,
        push=once * (1 - PUBLISH_SHARE) * micro,
        batch=batch * (1 - ENTRY_SHARE) * micro,
        entry=batch * ENTRY_SHARE * micro,
        message=message * micro,
        database=database * micro,
        row=row * micro,
        publish=once * PUBLISH_SHARE * micro,
        write=write * micro,
        more=max(0.0, (write_n - write) / (n - 1)) * micro,
        hear=hear * micro,
        say=say * micro,
        commit=max(0.0, fewest.p50_ms / 1000 - cpu - fewest.at * (write + hear) * micro - 2 * TRIP),
        trip=TRIP,
    )


def _line(points: Sequence[Point], figure: Callable[[Point], float]) -> tuple[float, float]:
    """Return intercept and slope over the number of members, by least squares of the relative errors."""
    weights = [1 / figure(point) ** 2 for point in points]
    total = sum(weights)
    x = sum(w * point.at for w, point in zip(weights, points, strict=True)) / total
    y = sum(w * figure(point) for w, point in zip(weights, points, strict=True)) / total
    numerator = sum(w * (point.at - x) * (figure(point) - y) for w, point in zip(weights, points, strict=True))
    denominator = sum(w * (point.at - x) ** 2 for w, point in zip(weights, points, strict=True))
    slope = numerator / denominator
    return y - slope * x, slope


def _split(alone: Sequence[Point], batched: Sequence[Point], figure: Callable[[Point], float]) -> tuple[float, float]:
    """Return the costs per message and per batch. A single message costs both; a full batch shares the latter."""
    one, shared = _mean(alone, figure), _mean(batched, figure)
    message = max(0.0, (BATCHED * shared - one) / (BATCHED - 1))
    return message, max(0.0, one - message)


def _mean(points: Sequence[Point], figure: Callable[[Point], float]) -> float:
    return sum(map(figure, points)) / len(points)
