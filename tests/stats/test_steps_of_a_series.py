"""Level steps in the values of many runs."""

from __future__ import annotations

import random

import pytest

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.stats import detect_change_points


def values_with_a_step(ratio: float, *, at: int, seed: int, n_values: int = 60) -> list[float]:
    noise = random.Random(seed)
    return [
        300 * (ratio if index >= at else 1.0) * noise.gauss(1, 0.01) for index in range(n_values)
    ]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ratio", [1.05, 0.95])
def test_a_step_is_found_and_lies_in_its_range(ratio: float, seed: int) -> None:
    (step,) = detect_change_points(values_with_a_step(ratio, at=35, seed=seed))

    assert step.first_index <= 35 <= step.last_index
    assert step.ratio == pytest.approx(ratio, abs=0.02)
    assert step.low_ratio < step.ratio < step.high_ratio
    assert step.n_before + step.n_after == 60


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_has_no_step(seed: int) -> None:
    assert detect_change_points(values_with_a_step(1.0, at=0, seed=seed)) == ()


def test_fewer_values_than_two_levels_need_have_no_step() -> None:
    values = values_with_a_step(1.5, at=6, seed=1, n_values=12)

    assert len(detect_change_points(values)) == 1
    assert detect_change_points(values[2:-1]) == ()


def test_scaling_a_series_changes_nothing() -> None:
    values = values_with_a_step(1.05, at=35, seed=3)

    (step,) = detect_change_points(values)
    (scaled,) = detect_change_points([value * 7 for value in values])

    assert scaled.index == step.index
    assert scaled.ratio == pytest.approx(step.ratio)


def test_a_value_that_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidMeasurement, match=r"value 3 of 12 is 0\.0 ms"):
        detect_change_points([1.0, 1.0, 1.0, 0.0] + [1.0] * 8)
