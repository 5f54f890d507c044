"""Durations counted in the buckets of a histogram, and their percentiles."""

import random

import pytest

from channelbox.monitoring.histogram import bucket, count, percentile_ms


def test_the_median_of_equal_durations_is_that_duration():
    assert percentile_ms(count([0.005] * 100), 0.5) == pytest.approx(5, rel=0.08)


def test_an_empty_histogram_has_no_percentile():
    assert percentile_ms({}, 0.5) is None


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_percentiles_are_within_eight_percent_over_five_decades(share):
    rng = random.Random(7)
    durations = sorted(10 ** rng.uniform(-4, 1) for _ in range(5000))
    exact = durations[int(share * len(durations))] * 1000
    assert percentile_ms(count(durations), share) == pytest.approx(exact, rel=0.08)


def test_histograms_of_two_processes_can_be_added():
    here, there = [0.001, 0.002, 0.3], [0.002, 4.0]
    assert count(here) + count(there) == count(here + there)


def test_a_longer_duration_is_never_in_a_lower_bucket():
    numbers = [bucket(seconds / 10_000) for seconds in range(1, 5000)]
    assert numbers == sorted(numbers)
