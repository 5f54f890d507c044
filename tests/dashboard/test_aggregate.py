"""Aggregation of process reports to the dashboard's figures."""

import pytest

from channelbox.dashboard.aggregate import aggregate
from channelbox.dashboard.series import NODE, TOTALS
from channelbox.monitoring.histogram import count
from channelbox.monitoring.process_reports import Processes, Report, mark_of


def report(unit, node="one", **fields):
    return Report(
        **{
            "process": f"{node}:{unit}",
            "node": node,
            "unit": unit,
            "kind": unit.partition("@")[0],
            "version": "0.1.0",
            "started": 1_764_000_000.0,
            **fields,
        }
    )


def data(*reports):
    return aggregate(Processes(1_764_000_100.25, list(reports)))


def test_reports_are_aggregated_by_installation_node_and_process():
    shown = data(
        report("web@1", connections=5, rooms=1, rates={"sent": 2.0, "delivered": 40.0}, memory_mb=60.0, age_s=0.5),
        report("worker@1", rates={"stored": 2.0}, queues={"chat.ingest": 3}, lag_ms=1.5),
    )
    assert shown["at"] == "2025-11-24T16:01:40.250Z"
    assert shown["totals"]["connections"] == 5
    assert shown["totals"]["messages_per_s"] == 2.0
    assert shown["totals"]["delivered_per_s"] == 40.0
    assert shown["totals"]["queue"] == 3
    assert shown["totals"]["processes"] == 2
    assert shown["nodes"] == {
        "one": {"connections": 5, "messages_per_s": 2.0, "delivered_per_s": 40.0, "lag_ms": 1.5},
    }
    assert shown["processes"][0] == {
        "node": "one",
        "unit": "web@1",
        "kind": "web",
        "version": "0.1.0",
        "up_since": "2025-11-24T16:00:00Z",
        "age_s": 0.5,
        "connections": 5,
        "rooms": 1,
        "messages_per_s": 2.0,
        "delivered_per_s": 40.0,
        "lag_ms": 0.0,
        "memory_mb": 60.0,
        "state": "well",
    }


def test_a_room_with_members_in_several_processes_counts_once():
    both = mark_of("both")
    shown = data(
        report("web@1", rooms=2, room_marks=both + mark_of("left")),
        report("web@2", rooms=2, room_marks=both + mark_of("right")),
        report("worker@1"),
    )
    assert shown["totals"]["rooms"] == 3


def test_a_message_counts_once_on_the_node_that_stored_it():
    shown = data(report("web@1", rates={"sent": 9.0}), report("worker@1", node="two", rates={"stored": 9.0}))
    assert shown["totals"]["messages_per_s"] == 9.0
    assert shown["nodes"]["one"]["messages_per_s"] is None
    assert shown["nodes"]["two"]["messages_per_s"] == 9.0


def test_a_figure_without_a_process_to_report_it_is_null_for_a_node():
    shown = data(report("worker@1"))
    assert shown["nodes"]["one"]["connections"] is None
    assert shown["nodes"]["one"]["delivered_per_s"] is None


def test_percentiles_are_computed_over_all_processes():
    shown = data(
        report("web@1", stored_in=count([0.005] * 98)),
        report("web@2", stored_in=count([1.0] * 2)),
    )
    assert shown["totals"]["store_p50_ms"] == pytest.approx(5, rel=0.08)
    assert shown["totals"]["store_p99_ms"] == pytest.approx(1000, rel=0.08)


def test_figures_that_no_process_reports_are_null():
    totals = data(report("web@1"))["totals"]
    assert totals["store_p50_ms"] is totals["store_p99_ms"] is totals["queue"] is None


def test_the_queue_length_is_that_of_the_newest_report():
    shown = data(
        report("web@1", queues={"chat.ingest": 900}, age_s=2.0), report("web@2", queues={"chat.ingest": 4}, age_s=0.1)
    )
    assert shown["totals"]["queue"] == 4


def test_unhealthy_processes_come_first_and_units_sort_by_number():
    shown = data(
        report("web@2"),
        report("web@10"),
        report("web@1", lag_ms=900.0),
        report("web@3", draining=True),
        report("worker@1", age_s=4.0),
    )
    assert [(process["unit"], process["state"]) for process in shown["processes"]] == [
        ("worker@1", "stale"),
        ("web@3", "draining"),
        ("web@1", "lagging"),
        ("web@2", "well"),
        ("web@10", "well"),
    ]


def test_the_series_has_every_figure_of_the_data():
    shown = data(report("web@1"))
    assert tuple(shown["totals"]) == TOTALS
    assert tuple(shown["nodes"]["one"]) == NODE


def test_an_installation_without_reports_has_an_empty_dashboard():
    shown = data()
    assert shown["totals"]["processes"] == 0
    assert shown["nodes"] == {} and shown["processes"] == []
