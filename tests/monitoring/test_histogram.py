"""Durations as buckets."""

import random

import pytest

from channelbox.monitoring.histogram import bucket, count, percentile_ms


def test_it_works():
    assert percentile_ms(count([0.005] * 100), 0.5) == pytest.approx(5, rel=0.08)


def test_nothing_counted_has_no_percentile():
    assert percentile_ms({}, 0.5) is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_percentile_is_right_to_eight_percent_over_five_decades(share):
    rng = random.Random(7)
    took = sorted(10 ** rng.uniform(-4, 1) for _ in range(5000))
    exact = took[int(share * len(took))] * 1000
    assert percentile_ms(count(took), share) == pytest.approx(exact, rel=0.08)


def test_counts_of_two_processes_add_up_to_the_count_of_both():
    here, there = [0.001, 0.002, 0.3], [0.002, 4.0]
    assert count(here) + count(there) == count(here + there)


def test_longer_is_never_in_a_lower_bucket():
    numbers = [bucket(seconds / 10_000) for seconds in range(1, 5000)]
    assert numbers == sorted(numbers)
