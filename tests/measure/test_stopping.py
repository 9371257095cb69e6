"""When measuring stops."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.measure.stopping import MAX_ROUNDS, MIN_ROUNDS, noise_ratio, stop_reason


def stop(times_ms: list[float], *, elapsed_s: float = 0, max_time_s: float = 20) -> str | None:
    return stop_reason(times_ms, elapsed_s=elapsed_s, max_time_s=max_time_s, is_cpu=True)


def test_fewer_than_ten_rounds_are_too_few() -> None:
    assert stop([5.0] * (MIN_ROUNDS - 1)) is None


def test_quiet_rounds_stop_at_ten() -> None:
    assert stop([5.0] * MIN_ROUNDS) == "noise of the median under 1.0%"


def test_a_device_must_be_quieter_than_a_cpu() -> None:
    times_ms = [100.0, 103.0] * 5

    reason = stop_reason(times_ms, elapsed_s=0, max_time_s=20, is_cpu=False)

    assert stop(times_ms) is not None
    assert reason is None


def test_noisy_rounds_go_on_after_ten() -> None:
    assert stop([5.0, 9.0] * 5) is None


def test_rounds_whose_noise_does_not_fall_stop_once_that_was_seen_twice() -> None:
    times_ms = [1.3**index for index in range(20)]

    assert stop(times_ms[:19]) is None
    assert stop(times_ms) == "noise stopped falling"


def test_a_single_outlier_does_not_stop_measuring() -> None:
    assert stop([*[5.0, 6.0] * 9, 5.0, 60.0]) is None


def test_the_time_limit_needs_three_rounds() -> None:
    assert stop([5.0, 9.0], elapsed_s=21) is None
    assert stop([5.0, 9.0, 7.0], elapsed_s=21) == "time limit of 20 s"


def test_the_most_rounds_are_a_hundred() -> None:
    assert stop([5.0, 500.0] * (MAX_ROUNDS // 2)) == "100 rounds"


@given(st.lists(st.floats(0.1, 1e4), min_size=2, max_size=40), st.floats(0.01, 100))
def test_noise_does_not_depend_on_the_unit(times: list[float], factor: float) -> None:
    scaled = [factor * time for time in times]

    assert math.isclose(noise_ratio(times), noise_ratio(scaled), rel_tol=1e-6, abs_tol=1e-9)


def test_one_round_has_no_known_noise() -> None:
    assert noise_ratio([5.0]) == math.inf
