"""The costs of the model, from what `make bench-growth` measured."""

from collections.abc import Callable, Sequence

from bench.growth.sweeps import CALIBRATING, MEMBERS, ROOMS, Point
from bench.simulator.model import Costs

ALONE, BATCHED = CALIBRATING[0], CALIBRATING[-1]  # messages under way: a batch of one, and one of so many
FROM = 100  # members: with fewer a batch of 16 is not always full
ENTRY = 0.25  # of a transaction's fixed cost in the worker, for each room in it: assumed, not measured
# Of what a web process does once for a batch, what falls to the publish that it hears: measured apart, by publishing
# into rooms of one member (22 to 37 us each, the write to the member included).
HEARD = 0.06
TRIP = 0.0002  # s
SAY_MOST = 30.0  # us: what is above is what the generator does between messages, however few there are


def costs(points: Sequence[Point]) -> Costs:
    """By two straight lines over the members, of messages alone and of those in batches. Raises ValueError for too few.

    What a web process does for a batch is `push + publish + members * (write + (n - 1) * more) + n * take`, n messages
    in it. A line's slope is what belongs to members, its start what does not. A write costs more where members are
    many (their memory is no longer near), so the line alone would begin below nothing: where rooms of one member were
    measured, it begins there.
    """
    own = [point for point in points if point.sweep == MEMBERS.name]
    alone = [point for point in own if point.in_flight == ALONE and point.at >= FROM]
    batched = [point for point in own if point.in_flight == BATCHED and point.at >= FROM]
    if len(alone) < 2 or len(batched) < 2:
        raise ValueError("make bench-growth has not measured the members; run: make bench-growth ARGS=members")
    n = BATCHED
    start, write = _line(alone, lambda point: point.web_us)
    if rooms := sorted(point.web_us for point in points if point.sweep == ROOMS.name):
        start = rooms[len(rooms) // 2]
        write = _mean(alone, lambda point: (point.web_us - start) / point.at)
    start_n, write_n = _line(batched, lambda point: point.web_us * n)
    say, hear = _line(alone, lambda point: point.generator_us)
    say = min(max(0.0, say), SAY_MOST)
    take = max(0.0, (start_n - start) / (n - 1))
    once = max(0.0, start - take)
    message, batch = _split(alone, batched, lambda point: point.worker_us)
    row, database = _split(alone, batched, lambda point: point.database_us)
    micro = 1e-6
    cpu = (take + once + _mean(alone, lambda point: point.worker_us + point.database_us) + say) * micro
    fewest = min((point for point in own if point.in_flight == ALONE), key=lambda point: point.at)
    return Costs(
        take=take * micro,
        push=once * (1 - HEARD) * micro,
        batch=batch * (1 - ENTRY) * micro,
        entry=batch * ENTRY * micro,
        message=message * micro,
        database=database * micro,
        row=row * micro,
        publish=once * HEARD * micro,
        write=write * micro,
        more=max(0.0, (write_n - write) / (n - 1)) * micro,
        hear=hear * micro,
        say=say * micro,
        commit=max(0.0, fewest.p50_ms / 1000 - cpu - fewest.at * (write + hear) * micro - 2 * TRIP),
        trip=TRIP,
    )


def _line(points: Sequence[Point], figure: Callable[[Point], float]) -> tuple[float, float]:
    """Start and slope over the members: least squares, each point weighed by its share of itself."""
    weights = [1 / figure(point) ** 2 for point in points]
    total = sum(weights)
    x = sum(w * point.at for w, point in zip(weights, points, strict=True)) / total
    y = sum(w * figure(point) for w, point in zip(weights, points, strict=True)) / total
    above = sum(w * (point.at - x) * (figure(point) - y) for w, point in zip(weights, points, strict=True))
    below = sum(w * (point.at - x) ** 2 for w, point in zip(weights, points, strict=True))
    slope = above / below
    return y - slope * x, slope


def _split(alone: Sequence[Point], batched: Sequence[Point], figure: Callable[[Point], float]) -> tuple[float, float]:
    """Of each message and of each batch: one alone costs both, in a full batch the second is shared."""
    one, shared = _mean(alone, figure), _mean(batched, figure)
    message = max(0.0, (BATCHED * shared - one) / (BATCHED - 1))
    return message, max(0.0, one - message)


def _mean(points: Sequence[Point], figure: Callable[[Point], float]) -> float:
    return sum(map(figure, points)) / len(points)
