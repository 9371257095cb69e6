"""The usual gates do what those tools do, on data made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pytest_benchmark.utils import PercentageRegressionCheck, parse_compare_fail
from scipy import stats

from benchmarks.evidence._gate_counts import (
    asv_compare,
    likeliest_split,
    mann_whitney,
    median_over,
    otava_steps,
    t_test,
)

if TYPE_CHECKING:
    from benchmarks.evidence._simulated_runs import Times

ROUNDS = 100 + np.arange(18) / 100


def a_series(*levels: tuple[int, float], noise: float = 0.01, seed: int = 0) -> Times:
    """Return values about levels, each given as how many values and how high."""
    rng = np.random.default_rng(seed)
    steps = np.concatenate([np.full(n, level) for n, level in levels])
    return np.asarray(steps * np.exp(noise * rng.standard_normal(len(steps))))


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.049, 1.05, 1.051, 1.2])
def test_the_median_gate_fails_where_pytest_benchmark_fails(factor: float) -> None:
    last, now = np.array([90.0, 100.0, 200.0]), np.array([95.0, 100.0, 101.0]) * factor
    check = parse_compare_fail("median:5%")  # type: ignore[no-untyped-call]  # it has no types
    assert isinstance(check, PercentageRegressionCheck)

    theirs = check.fails(  # type: ignore[no-untyped-call]  # it has no types
        {"median": float(np.median(now))}, {"median": float(np.median(last)), "name": "last"}
    )

    assert bool(median_over(last, now)) is bool(theirs)


def test_each_comparison_is_judged_by_itself() -> None:
    last, now = np.stack([ROUNDS] * 3), np.stack([ROUNDS, 1.06 * ROUNDS, 1.2 * ROUNDS])

    assert median_over(last, now).tolist() == [False, True, True]
    assert mann_whitney(last, now).tolist() == [False, True, True]
    assert asv_compare(last, now).tolist() == [False, False, True]


def test_mann_whitney_calls_a_shift_of_all_rounds_slower_however_small() -> None:
    assert mann_whitney(ROUNDS, ROUNDS + 0.2)
    assert not mann_whitney(ROUNDS + 0.2, ROUNDS)


def test_mann_whitneys_level_is_one_in_a_hundred() -> None:
    # Of 4 and 5 rounds without overlap the one-sided p is 1/126, of 4 and 4 it is 1/70.
    last, now = np.arange(4.0), np.arange(10.0, 15.0)

    assert mann_whitney(last, now)
    assert not mann_whitney(last, now[:4])


def test_asv_asks_for_a_tenth_more_and_for_rounds_that_differ() -> None:
    spread = np.concatenate([np.full(9, 50.0), np.full(9, 150.0)]) + np.arange(18) / 1e3

    assert asv_compare(ROUNDS, 1.11 * ROUNDS)
    assert not asv_compare(ROUNDS, 1.09 * ROUNDS)
    assert not asv_compare(1.11 * ROUNDS, ROUNDS)
    assert not asv_compare(spread, 1.2 * spread)


def test_asvs_level_is_two_in_a_thousand_of_both_sides() -> None:
    # Of 6 and 6 rounds without overlap the two-sided p is 2/924, of 6 and 7 it is 2/1716.
    last, now = np.arange(10.0, 16.0), np.arange(20.0, 27.0)

    assert asv_compare(last, now)
    assert not asv_compare(last, now[:6])


def test_otava_finds_a_clear_step_where_it_is() -> None:
    steps = otava_steps(a_series((30, 100.0), (20, 110.0)))

    assert list(steps) == [30]
    assert steps[30] == pytest.approx(1.1, abs=0.01)


def test_otava_finds_two_steps_and_their_directions() -> None:
    up = otava_steps(a_series((20, 100.0), (15, 110.0), (15, 125.0)))
    down = otava_steps(a_series((30, 100.0), (20, 90.0)))

    assert list(up) == [20, 35]
    assert list(down) == [30]
    assert all(ratio > 1 for ratio in up.values())
    assert all(ratio < 1 for ratio in down.values())


def test_otava_misses_a_step_that_the_next_one_takes_back() -> None:
    # Its likeliest split is at 20, where a t test of all that follows sees little: no slip of ours,
    # the tool itself (0.8.0) does so, and stops there; its next window finds what comes at 35.
    steps = otava_steps(a_series((20, 100.0), (15, 110.0), (15, 95.0)))

    assert list(steps) == [35]


def test_otava_finds_a_step_beyond_its_first_window() -> None:
    assert list(otava_steps(a_series((80, 100.0), (20, 110.0)))) == [80]


@pytest.mark.parametrize("n_values", [0, 1, 2, 3, 40])
def test_otava_finds_nothing_where_all_is_level(n_values: int) -> None:
    assert otava_steps(np.full(n_values, 100.0)) == {}
    assert otava_steps(a_series((n_values, 100.0))) == {}


def test_a_split_that_only_the_weaker_level_admits_is_taken_out() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 3.6, 4.6, 5.6, 6.6, 7.6])
    assert 0.001 < t_test(values[:5], values[5:]) < 0.01

    assert otava_steps(100 + values) == {}


def test_the_likeliest_split_is_that_of_the_definition() -> None:
    values = a_series((4, 100.0), (3, 103.0), (2, 90.0), seed=4)

    def energy(left: Times, right: Times) -> float:
        n, m = len(left), len(right)
        across = np.abs(left[:, None] - right).sum()
        within = sum(
            np.abs(side[:, None] - side).sum() / max(len(side) * (len(side) - 1), 1)
            for side in (left, right)
        )
        return float(m * n / (m + n) * (2 * across / (m * n) - within))

    n_values = len(values)
    expected = max(
        (energy(values[:t], values[t:k]), t)
        for t in range(1, n_values)
        for k in range(t + 1, n_values + 1)
    )

    energy_found, split = likeliest_split(values)

    assert split == expected[1]
    assert energy_found == pytest.approx(expected[0])


def test_the_t_test_is_students() -> None:
    left, right = a_series((7, 100.0)), a_series((4, 101.0), seed=1)

    assert t_test(left, right) == pytest.approx(stats.ttest_ind(left, right).pvalue)


def test_a_t_test_of_equal_values_or_of_two_says_nothing_and_of_two_levels_all() -> None:
    assert t_test(np.ones(3), np.ones(3)) == 1
    assert t_test(np.ones(1), np.zeros(1)) == 1
    assert t_test(np.ones(3), np.zeros(3)) == 0
