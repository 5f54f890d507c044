"""The simulator, compared with queueing theory, and the fit of its costs."""

import dataclasses
import random
import statistics
from functools import partial

import pytest
from bench.growth.sweeps import Point
from bench.simulator.clock import Clock, Machine, Process
from bench.simulator.fit import TRIP, costs
from bench.simulator.model import Costs, Setup, Simulation

FREE = Costs(*[0.0] * 14)


def test_mean_wait_of_a_single_server_queue_matches_theory() -> None:
    """M/D/1: the mean wait is rho / (2 (1 - rho)) services (Pollaczek-Khinchine)."""
    rng, service, rho = random.Random(7), 0.01, 0.7
    clock = Clock()
    process = Process(Machine(clock, 1))
    took: list[float] = []

    def arrive() -> None:
        arrived = clock.now
        process.do(service, lambda: took.append(clock.now - arrived))
        clock.after(rng.expovariate(rho / service), arrive)

    arrive()
    clock.run(3000)
    assert process.used / 3000 == pytest.approx(rho, rel=0.02)
    assert statistics.mean(took) - service == pytest.approx(service * rho / (2 * (1 - rho)), rel=0.05)


def test_processes_share_cores_and_use_at_most_one_each() -> None:
    clock = Clock()
    machine = Machine(clock, 2)
    ended: list[tuple[str, float]] = []

    def end(name: str) -> None:
        ended.append((name, clock.now))

    for name in "abc":
        process = Process(machine)
        for _ in range(2):
            process.do(1.0, partial(end, name))
    clock.run(10)
    assert [at for _, at in ended] == [1, 1, 2, 2, 3, 3]
    assert sorted(name for name, _ in ended) == list("aabbcc")


def test_every_message_is_delivered_once_to_every_member() -> None:
    costs = dataclasses.replace(FREE, write=1e-6, batch=1e-3, trip=1e-4)
    simulation = Simulation(Setup(members=100, rooms=10, web=3, workers=2, rate=100), costs)
    result = simulation.run(1, 50)
    assert result.messages == pytest.approx(100 * 50, rel=0.05)
    assert result.deliveries == result.messages * 10
    assert len(result.latencies) == result.messages


def test_deliveries_are_cheaper_with_more_messages_in_flight() -> None:
    """With more messages in flight, batches are larger and each delivery is cheaper."""
    costs = dataclasses.replace(FREE, write=5e-6, more=1e-7, batch=2e-3, trip=1e-4)
    cost = [
        Simulation(Setup(members=1000, in_flight=in_flight), costs).run(1, 5).delivery_us for in_flight in (1, 4, 16)
    ]
    assert cost[0] > 2 * cost[1] > 4 * cost[2]


def test_load_of_the_busiest_web_process_halves_with_two() -> None:
    costs = dataclasses.replace(FREE, write=10e-6, more=10e-6)
    result = Simulation(Setup(members=1000, web=1, rate=80, apart=True), costs).run(1, 20)
    assert result.busiest_web == pytest.approx(0.8, rel=0.1)
    halved = Simulation(Setup(members=1000, web=2, rate=80, apart=True), costs).run(1, 20)
    assert halved.busiest_web == pytest.approx(0.4, rel=0.1)
    assert statistics.mean(halved.latencies) < statistics.mean(result.latencies)


def test_fit_recovers_the_costs_from_generated_points() -> None:
    """The points are those that the model itself would produce."""
    truth = Costs(
        take=80e-6,
        push=100e-6,
        batch=1500e-6,
        entry=500e-6,
        message=150e-6,
        database=400e-6,
        row=60e-6,
        publish=100e-6,
        write=4e-6,
        more=0.2e-6,
        hear=3e-6,
        say=20e-6,
        commit=1e-3,
        trip=TRIP,
    )

    def point(at: int, n: int) -> Point:
        micro = 1e6 / n
        return Point(
            sweep="members",
            at=at,
            in_flight=n,
            connections=at,
            delivery_us=0,
            message_ms=0,
            web_us=micro * (truth.push + truth.publish + n * truth.take + at * (truth.write + (n - 1) * truth.more)),
            worker_us=micro * (truth.batch + truth.entry + n * truth.message),
            database_us=micro * (truth.database + n * truth.row),
            generator_us=1e6 * truth.say + 1e6 * truth.hear * at / n,
            p50_ms=6.0,
            p99_ms=0,
            connects_per_s=0,
            busy=0,
            balance=1,
        )

    found = costs([point(at, n) for at in (100, 1000, 3000) for n in (1, 16)])
    for name in ("take", "batch", "entry", "message", "database", "row", "write", "more", "hear", "say"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), rel=0.01), name
    assert found.push + found.publish == pytest.approx(truth.push + truth.publish, rel=0.01)


def test_too_few_points_to_fit_are_an_error() -> None:
    with pytest.raises(ValueError, match="make bench-growth"):
        costs([])
