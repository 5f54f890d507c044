"""From reports to the dashboard's data."""

import pytest

from channelbox.dashboard.aggregate import aggregate
from channelbox.dashboard.series import NODE, TOTALS
from channelbox.monitoring.histogram import count
from channelbox.monitoring.process_reports import Processes, Report, mark_of


def report(unit, node="one", **told):
    return Report(
        **{
            "process": f"{node}:{unit}",
            "node": node,
            "unit": unit,
            "kind": unit.partition("@")[0],
            "version": "0.1.0",
            "started": 1_764_000_000.0,
            **told,
        }
    )


def data(*reports):
    return aggregate(Processes(1_764_000_100.25, list(reports)))


def test_it_works():
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


def test_a_message_is_counted_where_it_was_stored_and_not_twice():
    shown = data(report("web@1", rates={"sent": 9.0}), report("worker@1", node="two", rates={"stored": 9.0}))
    assert shown["totals"]["messages_per_s"] == 9.0
    assert shown["nodes"]["one"]["messages_per_s"] is None
    assert shown["nodes"]["two"]["messages_per_s"] == 9.0


def test_what_a_node_has_no_process_for_is_unknown_rather_than_zero():
    shown = data(report("worker@1"))
    assert shown["nodes"]["one"]["connections"] is None
    assert shown["nodes"]["one"]["delivered_per_s"] is None


def test_percentiles_are_of_all_processes_together():
    shown = data(
        report("web@1", stored_in=count([0.005] * 98)),
        report("web@2", stored_in=count([1.0] * 2)),
    )
    assert shown["totals"]["store_p50_ms"] == pytest.approx(5, rel=0.08)
    assert shown["totals"]["store_p99_ms"] == pytest.approx(1000, rel=0.08)


def test_figures_that_nobody_can_know_are_null():
    totals = data(report("web@1"))["totals"]
    assert totals["store_p50_ms"] is totals["store_p99_ms"] is totals["queue"] is None


def test_the_queue_is_what_the_freshest_report_says():
    shown = data(
        report("web@1", queues={"chat.ingest": 900}, age_s=2.0), report("web@2", queues={"chat.ingest": 4}, age_s=0.1)
    )
    assert shown["totals"]["queue"] == 4


def test_the_unwell_come_first_and_units_count_as_people_do():
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


def test_the_series_knows_every_figure_of_the_data():
    shown = data(report("web@1"))
    assert tuple(shown["totals"]) == TOTALS
    assert tuple(shown["nodes"]["one"]) == NODE


def test_an_empty_installation_has_an_empty_board():
    shown = data()
    assert shown["totals"]["processes"] == 0
    assert shown["nodes"] == {} and shown["processes"] == []
