"""The table of processes that `channelbox status` prints."""

import pytest

from channelbox.cli.status import duration, show


def process(unit="web@1", **fields):
    return {
        "node": "web-1",
        "unit": unit,
        "kind": unit.partition("@")[0],
        "version": "0.1.0",
        "up_since": "2026-11-24T05:00:00Z",
        "age_s": 0.4,
        "connections": 1200,
        "rooms": 30,
        "messages_per_s": 12.5,
        "delivered_per_s": 4200.0,
        "lag_ms": 1.2,
        "memory_mb": 61.5,
        "state": "well",
        **fields,
    }


def data(*processes):
    totals = {"processes": len(processes), "nodes": 1, "connections": 1200, "rooms": 30, "messages_per_s": 12.5}
    return {"at": "2026-11-24T08:00:00.000Z", "processes": list(processes), "totals": {**totals, "queue": None}}


def test_table_shows_every_process_stale_ones_first(capsys):
    show(data(process("worker@1", state="stale"), process()))
    shown = capsys.readouterr().out
    assert shown.index("worker@1") < shown.index("web@1")
    for word in ("stale", "well", "web-1", "3h 0m", "1200", "4200", "queue unknown"):
        assert word in shown


def test_long_node_names_are_not_truncated_in_a_pipe(capsys):
    node = "a-rather-long-name-of-a-web-node.hospital.example"
    show(data(process(node=node)))
    assert node in capsys.readouterr().out


def test_without_processes_it_explains_how_to_start(capsys):
    show(data())
    assert "systemctl start channelbox.target" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90_061, "1d 1h"), (-3, "0s")],
)
def test_a_duration_has_two_units_at_most(seconds, words):
    assert duration(seconds) == words
