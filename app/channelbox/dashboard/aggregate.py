"""Aggregates the reports of all processes to the figures of the dashboard: a pure function.

The dashboard sends its clients ``{"data": <this>}``::

    {
        "at": "2026-11-24T08:00:00.123Z",   # Redis' clock when the reports were read
        "totals": {
            "connections": 12,              # open now in the whole installation, chat and dashboard
            "rooms": 3,                     # rooms with members, each counted once
            "messages_per_s": 4.0,          # messages stored
            "delivered_per_s": 48.0,        # frames written to clients
            "store_p50_ms": 5.1,            # from a message's arrival until it is known to be stored, over the last
                                            # 10 s; null: none was stored
            "store_p99_ms": 9.8,
            "queue": 0,                     # batches of messages that wait for a worker; null: no process could look
            "nodes": 2,
            "processes": 6,                 # those in the list below
        },
        "nodes": {
            "web-1": {
                "connections": 12,          # null on a node without web processes
                "messages_per_s": 4.0,      # stored by its workers; null on a node without workers
                "delivered_per_s": 48.0,    # null on a node without web processes
                "lag_ms": 1.2,              # the longest of its processes
            },
        },
        "processes": [                      # the unhealthy first, then by node and unit
            {
                "node": "web-1",
                "unit": "web@1",
                "kind": "web",              # or "worker"
                "version": "0.1.0",
                "up_since": "2026-11-24T07:00:00Z",
                "age_s": 0.4,               # of its newest report
                "connections": 12,          # 0 for a worker
                "rooms": 3,                 # rooms with members in this process, 0 for a worker
                "messages_per_s": 4.0,      # web: taken from clients; worker: stored
                "delivered_per_s": 48.0,    # 0 for a worker
                "lag_ms": 1.2,              # the longest that its event loop was late in the last second
                "memory_mb": 61.5,          # resident
                "state": "well",            # or "lagging", "draining" (going away), "stale" (no report for 3 s)
            },
        ],
    }

A process without a report for 15 s is dead and left out. A stale one still counts, with its last figures.

The series (`dashboard/series.py`) has the same names: every figure of ``totals``, and for each node those of ``nodes``.
"""

import datetime
from collections.abc import Iterable
from typing import Any

from channelbox.monitoring.health import STATES, state
from channelbox.monitoring.histogram import Buckets, percentile_ms
from channelbox.monitoring.process_reports import Processes, Report

Data = dict[str, Any]

_MARK = 8  # bytes


def aggregate(processes: Processes) -> Data:
    """Return the shape above."""
    reports = processes.reports
    nodes = sorted({report.node for report in reports})
    stored_in = _added(report.stored_in for report in reports)
    return {
        "at": _iso(processes.at, "milliseconds"),
        "totals": {
            "connections": sum(report.connections for report in reports),
            "rooms": _distinct_rooms(reports),
            "messages_per_s": _rate(reports, "worker", "stored"),
            "delivered_per_s": _rate(reports, "web", "delivered"),
            "store_p50_ms": percentile_ms(stored_in, 0.5),
            "store_p99_ms": percentile_ms(stored_in, 0.99),
            "queue": _queue(reports),
            "nodes": len(nodes),
            "processes": len(reports),
        },
        "nodes": {name: _node([report for report in reports if report.node == name]) for name in nodes},
        "processes": sorted((_process(report) for report in reports), key=_unhealthy_first),
    }


def _node(reports: list[Report]) -> Data:
    kinds = {report.kind for report in reports}
    return {
        "connections": sum(report.connections for report in reports) if "web" in kinds else None,
        "messages_per_s": _rate(reports, "worker", "stored") if "worker" in kinds else None,
        "delivered_per_s": _rate(reports, "web", "delivered") if "web" in kinds else None,
        "lag_ms": max(report.lag_ms for report in reports),
    }


def _process(report: Report) -> Data:
    return {
        "node": report.node,
        "unit": report.unit,
        "kind": report.kind,
        "version": report.version,
        "up_since": _iso(report.started, "seconds"),
        "age_s": report.age_s,
        "connections": report.connections,
        "rooms": report.rooms,
        "messages_per_s": report.rates.get("sent" if report.kind == "web" else "stored", 0.0),
        "delivered_per_s": report.rates.get("delivered", 0.0),
        "lag_ms": report.lag_ms,
        "memory_mb": report.memory_mb,
        "state": state(report),
    }


def _unhealthy_first(process: Data) -> tuple[int, str, list[Any]]:
    # Numeric order: web@2 before web@10.
    name, _, number = process["unit"].partition("@")
    return STATES.index(process["state"]), process["node"], [name, number.rjust(9)]


def _rate(reports: Iterable[Report], kind: str, counter: str) -> float:
    return round(sum(report.rates.get(counter, 0.0) for report in reports if report.kind == kind), 2)


def _added(counts: Iterable[Buckets]) -> Buckets:
    total: dict[int, int] = {}
    for buckets in counts:
        for number, count in buckets.items():
            total[number] = total.get(number, 0) + count
    return total


def _distinct_rooms(reports: Iterable[Report]) -> int:
    marks: set[bytes] = set()
    for report in reports:
        packed = report.room_marks
        marks.update(packed[at : at + _MARK] for at in range(0, len(packed), _MARK))
    return len(marks)


def _queue(reports: Iterable[Report]) -> int | None:
    """Return the newest queue length. Every process that can read it reports it each second."""
    lengths = [(report.age_s, sum(report.queues.values())) for report in reports if report.queues]
    return min(lengths)[1] if lengths else None


def _iso(seconds: float, precision: str) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")
