"""Budgets of tensors: the same answers as of arrays, and true to their own check."""

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import MOST_TOKENS, Limits, tokens_within
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.state import State
from pytest_vlmlatency.estimator.tensors import longest_tensors, within_tensors
from tests.estimator.machines import simulated
from tests.estimator.test_roofline import A_CONFIG
from tests.estimator.test_tensors import as_tensors, some_columns

MS = st.floats(0.01, 10_000)
DTYPES = st.sampled_from([torch.float32, torch.float64])


@dataclass(frozen=True)
class Known:
    """An estimator whose times a test has chosen."""

    prefill_ms: torch.Tensor
    step_ms: torch.Tensor

    @property
    def state(self) -> State:
        """Return nothing: it was fitted on none."""
        raise AssertionError("nothing that is asked here needs a state")

    def predict_batch(self, columns: object) -> Prediction:
        """Return the chosen times."""
        return cast("Prediction", {PREFILL: self.prefill_ms, DECODE_STEP: self.step_ms})

    def predict_quantile(self, columns: object, q: float) -> Prediction:
        """Return the chosen times."""
        return self.predict_batch(columns)


def known(prefill_ms: float, step_ms: float, dtype: torch.dtype) -> Known:
    return Known(torch.tensor([prefill_ms], dtype=dtype), torch.tensor([step_ms], dtype=dtype))


def fits(estimator: Known, budget_ms: object, n_tokens: object) -> bool:
    limits = Limits(budget_ms=budget_ms, expected_output_tokens=n_tokens)
    return bool(within_tensors(estimator, {}, limits))


@given(prefill_ms=MS, step_ms=MS, budget_ms=MS, dtype=DTYPES)
def test_the_longest_output_fits_and_one_token_more_does_not(
    prefill_ms: float, step_ms: float, budget_ms: float, dtype: torch.dtype
) -> None:
    estimator = known(prefill_ms, step_ms, dtype)

    n_tokens = longest_tensors(estimator, {}, budget_ms, None)

    assert n_tokens.item() == 0 or fits(estimator, budget_ms, n_tokens)
    assert not fits(estimator, budget_ms, n_tokens + 1)
    assert not fits(estimator, budget_ms, int(n_tokens) + 1)


@given(prefill_ms=MS, step_ms=MS, budget_ms=MS)
def test_in_float64_the_longest_output_is_that_of_arrays(
    prefill_ms: float, step_ms: float, budget_ms: float
) -> None:
    n_tokens = longest_tensors(known(prefill_ms, step_ms, torch.float64), {}, budget_ms, None)

    assert n_tokens.tolist() == list(
        tokens_within(np.array([prefill_ms]), np.array([step_ms]), np.array([budget_ms]))
    )


@given(n_tokens=st.integers(1, 5000), prefill=st.integers(1, 1000), step=st.integers(1, 100))
def test_a_budget_made_for_n_tokens_holds_n_tokens(n_tokens: int, prefill: int, step: int) -> None:
    """Also in float32, where it is made from the predicted tensors themselves."""
    estimator = known(prefill / 7, step / 7, torch.float32)
    budget_ms = estimator.prefill_ms + (n_tokens - 1) * estimator.step_ms

    assert longest_tensors(estimator, {}, budget_ms, None).tolist() == [n_tokens]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_far_below_the_resolution_of_the_budget_keeps_the_law(dtype: torch.dtype) -> None:
    estimator = known(1000.0, 1e-5, dtype)

    n_tokens = longest_tensors(estimator, {}, 1000.01, None)

    assert fits(estimator, 1000.01, n_tokens)
    assert not fits(estimator, 1000.01, n_tokens + 1)


def test_a_budget_that_never_runs_out_ends_at_the_most_tokens() -> None:
    estimator = known(1.0, 1e-12, torch.float64)

    assert longest_tensors(estimator, {}, 1e9, None).tolist() == [MOST_TOKENS + 1]


def test_budgets_made_for_n_tokens_are_answered_as_for_arrays() -> None:
    estimator = RooflineEstimator().fit(simulated(400, seed=4, cliff=0.5))
    columns = some_columns()
    said = estimator.predict_batch(columns)
    n_tokens = np.random.default_rng(3).integers(1, 200, len(said[PREFILL]))
    budget_ms = said[PREFILL] + (n_tokens - 1) * said[DECODE_STEP]

    of_arrays = estimator.max_output_tokens(columns, budget_ms)
    of_tensors = estimator.max_output_tokens(
        as_tensors(columns, torch.float64), torch.from_numpy(budget_ms)
    )

    assert isinstance(of_tensors, torch.Tensor)
    assert of_tensors.tolist() == np.asarray(of_arrays).tolist() == n_tokens.tolist()


ASKED = {**A_CONFIG, "top_k": torch.tensor([8.0, 8.0])}


@pytest.mark.parametrize("budget_ms", [0, -500.0, math.nan, math.inf, [100.0, -1.0]], ids=repr)
def test_a_budget_that_is_no_time_is_refused(fitted: RooflineEstimator, budget_ms: Any) -> None:
    with pytest.raises(EstimatorProblem, match=r"a budget is .* ms; expected a finite time above"):
        fitted.check_budget_feasibility(ASKED, budget_ms, 4)
    with pytest.raises(EstimatorProblem, match="the budget has values that are no time"):
        fitted.check_budget_feasibility(ASKED, torch.tensor(budget_ms), 4)
    with pytest.raises(EstimatorProblem, match="the budget has values that are no time"):
        fitted.max_output_tokens(ASKED, torch.tensor(budget_ms))
    with pytest.raises(EstimatorProblem, match=r"a budget is .* ms; expected a finite time above"):
        fitted.max_output_tokens(ASKED, budget_ms)


@pytest.mark.parametrize("n_tokens", [0, -3, math.nan], ids=repr)
def test_a_length_that_is_none_is_refused(fitted: RooflineEstimator, n_tokens: float) -> None:
    with pytest.raises(EstimatorProblem, match=r"expected_output_tokens is .* expected at least 1"):
        fitted.check_budget_feasibility(ASKED, 100.0, n_tokens)
    with pytest.raises(EstimatorProblem, match=r"expected_output_tokens has values that are below"):
        fitted.check_budget_feasibility(ASKED, 100.0, torch.tensor([4, n_tokens]))


def test_a_step_of_no_time_is_refused_and_not_endless_tokens() -> None:
    with pytest.raises(EstimatorProblem, match=r"predicted to take 0 ms, .* \(1 of 1\)"):
        longest_tensors(known(10.0, 0.0, torch.float64), {}, 100.0, None)
