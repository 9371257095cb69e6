"""The trend of many runs: where the level stepped, and whether the last values alarm."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.stats import detect_change_points


def values(
    n: int,
    *,
    step: float = 0.0,
    at: int = 0,
    creep: float = 0.0,
    seed: int = 0,
    noise: float = 0.01,
) -> list[float]:
    """Return values about 100 ms; slower by `step` from `at` on, by `creep` each."""
    rng = random.Random(seed)
    changes = [1 + (step if index >= at else 0) + creep * index for index in range(n)]
    return [100 * change * math.exp(rng.gauss(0, noise)) for change in changes]


def test_a_step_is_found_where_it_happened() -> None:
    (step,) = detect_change_points(values(100, step=0.05, at=60))

    assert step.first_index <= 60 <= step.last_index
    assert step.low_ratio < 1.05 < step.high_ratio
    assert (step.n_before, step.n_after) == (step.index, 100 - step.index)


@pytest.mark.parametrize("at", [6, 20, 57, 60, 62, 94])
def test_a_step_that_is_large_beside_the_noise_is_one_step_and_lies_where_it_is(at: int) -> None:
    steps = detect_change_points(values(100, step=0.05, at=at, noise=0.001))

    assert [step.index for step in steps] == [at]


def test_two_steps_are_found_though_the_second_takes_the_first_back() -> None:
    there = values(100, step=0.05, at=40)
    back = [value / 1.05 if index >= 70 else value for index, value in enumerate(there)]

    steps = detect_change_points(back)

    assert [step.ratio > 1 for step in steps] == [True, False]


def test_noise_alone_has_no_step() -> None:
    assert detect_change_points(values(500)) == ()


def test_one_slow_run_is_no_step() -> None:
    excursion = values(60)
    excursion[30] *= 2

    assert detect_change_points(excursion) == ()


def test_too_few_values_have_no_step() -> None:
    assert detect_change_points([1.0] * 4 + [9.0] * 5) == ()
    assert detect_change_points([]) == ()


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 0.0, -1.0])
def test_a_value_that_cannot_be_is_an_error(wrong: float) -> None:
    with pytest.raises(InvalidMeasurement, match="value 3 of 20 is"):
        detect_change_points([1.0] * 3 + [wrong] + [1.0] * 16)


@settings(max_examples=60, deadline=None)
@given(step=st.floats(-0.2, 0.2), seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_scaling_all_values_leaves_the_steps(step: float, seed: int, factor: float) -> None:
    here = values(60, step=step, at=30, seed=seed)

    steps = detect_change_points(here)
    scaled = detect_change_points([factor * value for value in here])

    assert [found.index for found in scaled] == [found.index for found in steps]
    assert [found.ratio for found in scaled] == pytest.approx([found.ratio for found in steps])
