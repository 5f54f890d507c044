"""Samples as columns."""

from channelbox.dashboard.series import NODE, TOTALS, series_of


def sample(second, connections, nodes):
    return {"at": second, "totals": {"connections": connections}, "nodes": nodes}


def test_it_works():
    series = series_of([sample(10, 1, {"a": {"connections": 1}}), sample(11, 2, {"a": {"connections": 2}})])
    assert series["step_s"] == 1
    assert series["at"] == [10, 11]
    assert series["totals"]["connections"] == [1, 2]
    assert series["nodes"]["a"]["connections"] == [1, 2]


def test_a_second_without_a_sample_is_there_and_unknown():
    series = series_of([sample(10, 1, {}), sample(13, 4, {})])
    assert series["at"] == [10, 11, 12, 13]
    assert series["totals"]["connections"] == [1, None, None, 4]


def test_a_node_that_came_later_is_unknown_before():
    series = series_of([sample(10, 1, {}), sample(11, 4, {"b": {"connections": 4}})])
    assert series["nodes"]["b"]["connections"] == [None, 4]


def test_every_figure_is_there_from_the_start():
    series = series_of([])
    assert series == {"step_s": 1, "at": [], "totals": {figure: [] for figure in TOTALS}, "nodes": {}}
    assert set(series_of([sample(1, 1, {"a": {}})])["nodes"]["a"]) == set(NODE)
