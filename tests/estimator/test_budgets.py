"""What fits a budget is what the predictions add up to, and not one token more."""

import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import tokens_within
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.test_roofline import A_CONFIG

MS = st.floats(0.01, 10_000)


def times(estimator: RooflineEstimator) -> tuple[float, float]:
    """Return prefill and step of the configuration that these tests ask for."""
    predicted = estimator.predict_batch(A_CONFIG)
    return float(predicted[PREFILL][0]), float(predicted[DECODE_STEP][0])


@given(prefill_ms=MS, step_ms=MS, budget_ms=MS)
def test_the_longest_output_fits_and_one_token_more_does_not(
    prefill_ms: float, step_ms: float, budget_ms: float
) -> None:
    n_tokens = int(
        tokens_within(np.array([prefill_ms]), np.array([step_ms]), np.array([budget_ms]))[0]
    )

    assert n_tokens == 0 or prefill_ms + (n_tokens - 1) * step_ms <= budget_ms
    assert prefill_ms + n_tokens * step_ms > budget_ms


@given(prefill_ms=st.integers(1, 1000), step_ms=st.integers(1, 100), n_tokens=st.integers(1, 5000))
def test_a_budget_made_for_n_tokens_holds_n_tokens(
    prefill_ms: int, step_ms: int, n_tokens: int
) -> None:
    prefill, step = np.array([prefill_ms / 7]), np.array([step_ms / 7])

    assert tokens_within(prefill, step, prefill + (n_tokens - 1) * step).tolist() == [n_tokens]


def test_the_longest_output_is_one_plus_the_whole_steps_left(fitted: RooflineEstimator) -> None:
    prefill_ms, step_ms = times(fitted)

    n_tokens = fitted.max_output_tokens(A_CONFIG, 500)

    assert n_tokens == 1 + math.floor((500 - prefill_ms) / step_ms)
    assert isinstance(n_tokens, int)


def test_a_budget_below_prefill_leaves_no_token(fitted: RooflineEstimator) -> None:
    prefill_ms, _ = times(fitted)

    assert fitted.max_output_tokens(A_CONFIG, prefill_ms * 0.99) == 0
    assert fitted.max_output_tokens(A_CONFIG, prefill_ms) == 1


def test_feasible_is_what_the_longest_output_allows(fitted: RooflineEstimator) -> None:
    n_tokens = int(fitted.max_output_tokens(A_CONFIG, 500))

    assert fitted.check_budget_feasibility(A_CONFIG, 500, n_tokens) is True
    assert fitted.check_budget_feasibility(A_CONFIG, 500, n_tokens + 1) is False


def test_lists_are_checked_row_by_row(fitted: RooflineEstimator) -> None:
    asked = {**A_CONFIG, "num_active_blocks": [8, 16]}
    slow_ms = float(fitted.predict_batch(asked)[PREFILL][1])

    inside = fitted.check_budget_feasibility(asked, slow_ms * 0.99, 1)

    assert np.asarray(inside).tolist() == [True, False]


def test_a_safety_quantile_is_stricter(fitted: RooflineEstimator) -> None:
    prefill_ms, step_ms = times(fitted)
    budget_ms = prefill_ms + 9 * step_ms

    assert fitted.max_output_tokens(A_CONFIG, budget_ms * 1.001) == 10
    assert int(fitted.max_output_tokens(A_CONFIG, budget_ms * 1.001, quantile=0.95)) < 10
    assert fitted.check_budget_feasibility(A_CONFIG, budget_ms * 1.001, 10)
    assert not fitted.check_budget_feasibility(A_CONFIG, budget_ms * 1.001, 10, quantile=0.95)


def test_prefill_may_have_a_share_of_the_budget_only(fitted: RooflineEstimator) -> None:
    prefill_ms, _ = times(fitted)

    assert fitted.check_budget_feasibility(A_CONFIG, prefill_ms * 1.1, 1)
    assert not fitted.check_budget_feasibility(A_CONFIG, prefill_ms * 1.1, 1, prefill_share=0.8)
    assert fitted.check_budget_feasibility(A_CONFIG, prefill_ms * 1.26, 1, prefill_share=0.8)


def test_a_percentile_plans_for_the_lengths_that_were_seen(fitted: RooflineEstimator) -> None:
    prefill_ms, step_ms = times(fitted)
    n_tokens = fitted.state.output_tokens[90]

    exact_ms = prefill_ms + (n_tokens - 1) * step_ms

    assert fitted.check_budget_feasibility(A_CONFIG, exact_ms * 1.0001, percentile=90)
    assert not fitted.check_budget_feasibility(A_CONFIG, exact_ms * 0.9999, percentile=90)


def test_the_inputs_may_be_given_one_by_one(fitted: RooflineEstimator) -> None:
    """As the call that this one is named after has them."""
    prefill_ms, step_ms = times(fitted)
    budget_ms = prefill_ms + 9.5 * step_ms
    values, named = (400, 40, "low", 8, 12), cast("dict[str, Any]", A_CONFIG)

    answers = [
        fitted.check_budget_feasibility(*values, budget_ms, n_tokens) for n_tokens in (10, 11)
    ] + [
        fitted.check_budget_feasibility(
            **named, latency_budget=budget_ms, expected_output_tokens=n_tokens
        )
        for n_tokens in (10, 11)
    ]

    assert answers == [True, False] * 2


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        ((A_CONFIG,), {"expected_output_tokens": 3}, "there is no latency_budget"),
        ((A_CONFIG, 500), {"latency_budget": 400}, "latency_budget is there twice"),
        ((A_CONFIG,), {"top_k": 4, "latency_budget": 400}, "top_k is there twice"),
        ((A_CONFIG, 500, 16, 0.95), {}, "4 values and no names were given; expected a config or"),
        ((A_CONFIG, 500, 16), {"prefil_share": 0.8}, "there is no input 'prefil_share'"),
    ],
)
def test_a_question_that_means_nothing_is_refused(
    fitted: RooflineEstimator, values: tuple[object, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(EstimatorProblem, match=message):
        fitted.check_budget_feasibility(*values, **named)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "say how long outputs are, once"),
        ({"expected_output_tokens": 3, "percentile": 90}, "say how long outputs are, once"),
        ({"expected_output_tokens": 0}, "expected_output_tokens is 0; expected at least 1"),
        ({"percentile": 101}, "percentile is 101; expected 0 to 100"),
        ({"expected_output_tokens": 3, "prefill_share": 0}, "prefill_share is 0; expected a share"),
        ({"expected_output_tokens": 3, "latency_budget": 0}, "a budget is 0 ms; expected a finite"),
        ({"expected_output_tokens": 3, "latency_budget": math.inf}, "a budget is inf ms"),
        ({"expected_output_tokens": 3, "latency_budget": "500"}, "a budget is '500' ms; expected"),
        ({"expected_output_tokens": "many"}, "expected_output_tokens is 'many'; expected at least"),
        ({"percentile": "90"}, "percentile is '90'; expected 0 to 100"),
        ({"expected_output_tokens": 3, "prefill_share": "0.8"}, "prefill_share is '0.8'; expected"),
    ],
)
def test_limits_that_mean_nothing_are_refused(
    fitted: RooflineEstimator, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(EstimatorProblem, match=message):
        fitted.check_budget_feasibility(A_CONFIG, **{"latency_budget": 100.0, **asked})


def test_budgets_that_do_not_go_with_the_requests_are_refused(fitted: RooflineEstimator) -> None:
    asked = {**A_CONFIG, "top_k": [4, 8, 8]}

    with pytest.raises(EstimatorProblem, match=r"budget of the shape \(2,\) .* with 3 requests"):
        fitted.check_budget_feasibility(asked, [100, 200], 8)
    with pytest.raises(EstimatorProblem, match=r"budget of the shape \(2,\) .* with 3 requests"):
        fitted.max_output_tokens(asked, [100, 200])
