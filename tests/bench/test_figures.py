"""Medians, spreads and ratios of the figures of a benchmark."""

import pytest
from bench.figures import Sample, percentile, rows, summed_up


def sample(server: str, value: float, figure: str = "delivery_cpu", size: int = 200, busy: float = 0.1) -> Sample:
    return Sample(figure, server, size, value, "s", busy, 4 if figure == "delivery_cpu" else None)


def test_runs_of_one_server_become_one_figure_with_its_spread() -> None:
    (figure,) = summed_up([sample("channelbox", value) for value in (3.0, 1.0, 2.5)])
    assert (figure.median, figure.min, figure.max, figure.runs) == (2.5, 1.0, 3.0, 3)


def test_samples_of_different_servers_or_sizes_stay_separate() -> None:
    different = [sample("channelbox", 1), sample("nchan", 1), sample("channelbox", 1, size=1000)]
    assert len(summed_up(different)) == 3


def test_record_has_the_documented_fields() -> None:
    (figure,) = summed_up([sample("channelbox", 40.0, "connects_per_s")])
    documented = {"figure", "server", "size", "median", "min", "max", "unit"}
    assert documented <= figure.record().keys()
    assert "in_flight" not in figure.record()


def test_one_run_with_a_busy_generator_marks_a_bottleneck() -> None:
    (figure,) = summed_up([sample("channelbox", 1), sample("channelbox", 1, busy=0.97)])
    assert figure.bottleneck


def test_advantage_rises_with_lower_costs_and_higher_rates() -> None:
    costs = [sample("channelbox", 0.5), sample("tutorial", 40.0)]
    rates = [sample("channelbox", 1000.0, "connects_per_s"), sample("tutorial", 250.0, "connects_per_s")]
    cost, rate = rows(summed_up(costs + rates))
    assert cost.advantage("tutorial") == pytest.approx(80)
    assert rate.advantage("tutorial") == pytest.approx(4)
    assert rate.advantage("nchan") is None


def test_maximum_connections_share_a_row_whatever_their_sizes() -> None:
    (row,) = rows(summed_up([sample("channelbox", 9, "max_connections", 9), sample("nchan", 5, "max_connections", 5)]))
    assert row.servers.keys() == {"channelbox", "nchan"}


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
