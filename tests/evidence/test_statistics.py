"""The statistics of the evidence: intervals that cover, and the spread."""

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence._statistics import (
    Interval,
    interquartile_range,
    median_interval,
    rate_interval,
)

values_of = st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=60)


def test_six_values_are_enclosed_by_their_smallest_and_largest() -> None:
    assert median_interval([3, 1, 2, 6, 5, 4]) == Interval(middle=3.5, low=1, high=6)


def test_the_ranks_of_an_interval_are_those_of_the_tables() -> None:
    # Conover, Practical Nonparametric Statistics: for n = 20 the 6th and the 15th of 20.
    assert median_interval(list(range(1, 21))) == Interval(middle=10.5, low=6, high=15)


def test_five_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 values have no 95 % interval; expected at least 6"):
        median_interval([1, 2, 3, 4, 5])


@given(values_of)
def test_an_interval_holds_its_median(values: list[float]) -> None:
    interval = median_interval(values)

    assert interval.middle == median(values)
    assert interval.low <= interval.middle <= interval.high
    assert interval.holds(interval.middle)


def test_intervals_miss_the_true_median_in_at_most_one_of_twenty() -> None:
    draw = random.Random(0)
    intervals = [median_interval([draw.expovariate(1) for _ in range(25)]) for _ in range(2000)]

    n_missed = sum(not interval.holds(0.6931) for interval in intervals)

    assert n_missed / len(intervals) == pytest.approx(0.043, abs=0.012)


def test_the_interquartile_range_is_the_width_of_the_middle_half() -> None:
    assert interquartile_range([1, 2, 3, 4, 5]) == 2


@pytest.mark.parametrize(
    ("n_hits", "low", "high"), [(0, 0, 0.30850), (3, 0.06674, 0.65245), (10, 0.69150, 1)]
)
def test_the_interval_of_a_rate_is_clopper_and_pearsons(
    n_hits: int, low: float, high: float
) -> None:
    # Clopper and Pearson, Biometrika 26 (1934): 95 % limits for 0, 3 and 10 of 10.
    assert list(rate_interval(n_hits, 10)) == pytest.approx([low, high], abs=1e-5)
