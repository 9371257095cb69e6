"""Latency budgets: which requests fit, and how many tokens they leave room for.

A generation of N tokens is one prefill and N - 1 decode steps. With a `quantile`, such as 0.95,
both are taken at it: the sum then holds at least as often, as both are rarely slow at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import FloatArray, has_tensors
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.state import State

MOST_TOKENS = 2**31  # a budget that never runs out is a mistake in the units


class Predicts(Protocol):
    """What budgets and search ask of an estimator."""

    @property
    def state(self) -> State:
        """Ranges, spreads, and the output lengths that were seen."""

    def predict_batch(self, columns: Mapping[str, object]) -> Prediction:
        """Return both targets in ms, one row a request."""

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return what a share `q` of measured values stays below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a generation must stay within. Outputs are as long as expected, or a percentile."""

    budget_ms: object  # a number, or one for each request
    expected_output_tokens: object | None = None
    percentile: float | None = None  # of the output lengths that the estimator was fitted on
    prefill_share: float | None = None  # of the budget; 0.8 leaves a fifth to decode
    quantile: float | None = None  # 0.95: at least so often, not only as expected

    def __post_init__(self) -> None:
        if (self.expected_output_tokens is None) == (self.percentile is None):
            raise EstimatorProblem(
                "say how long outputs are, once: either expected_output_tokens=32, or "
                "percentile=90 of the lengths that the estimator was fitted on"
            )
        percentile, share = self.percentile, self.prefill_share
        if percentile is not None and not (isinstance(percentile, Real) and 0 <= percentile <= 100):
            raise EstimatorProblem(f"percentile is {percentile!r}; expected 0 to 100, as in 90")
        if share is not None and not (isinstance(share, Real) and 0 < share <= 1):
            raise EstimatorProblem(
                f"prefill_share is {share!r}; expected a share of the budget above 0 and at most "
                f"1, such as 0.8"
            )


def predicted_at(
    estimator: Predicts, columns: Mapping[str, object], quantile: float | None
) -> tuple[FloatArray, FloatArray]:
    """Return prefill and decode step in ms, at a quantile or as expected."""
    if quantile is None:
        predicted = estimator.predict_batch(columns)
    else:
        predicted = estimator.predict_quantile(columns, quantile)
    return predicted[PREFILL], predicted[DECODE_STEP]


def within(estimator: Predicts, columns: Mapping[str, object], limits: Limits) -> NDArray[np.bool_]:
    """Return which rows stay within the limits; a budget or length may be given for each row."""
    if has_tensors(columns):
        from pytest_vlmlatency.estimator.tensors import within_tensors  # noqa: PLC0415

        return cast("NDArray[np.bool_]", within_tensors(estimator, columns, limits))
    prefill_ms, step_ms = predicted_at(estimator, columns, limits.quantile)
    budget_ms = budget_of(limits.budget_ms)
    n_tokens = output_length(estimator, limits)
    _check_lengths(len(prefill_ms), budget=budget_ms, expected_output_tokens=n_tokens)
    inside = np.asarray(prefill_ms + (n_tokens - 1) * step_ms <= budget_ms)
    if limits.prefill_share is not None:
        inside &= prefill_ms <= limits.prefill_share * budget_ms
    return inside


def tokens_within(
    prefill_ms: FloatArray, step_ms: FloatArray, budget_ms: FloatArray
) -> NDArray[np.int64]:
    """Return 1 + floor((budget - prefill) / step): the longest output that fits; 0 if none does."""
    if not np.all(step_ms > 0):
        raise EstimatorProblem(
            "a decode step is predicted to take 0 ms, so any number of tokens would fit; expected "
            "at least one block and one token among the inputs"
        )
    room = np.minimum(np.floor((budget_ms - prefill_ms) / step_ms), MOST_TOKENS)
    tokens = np.where(budget_ms >= prefill_ms, 1 + room, 0)
    # A quotient that is rounded to a whole number may be one too many or too few.
    over = (tokens > 1) & (prefill_ms + (tokens - 1) * step_ms > budget_ms)
    tokens = tokens - over
    more = (tokens > 0) & (tokens < MOST_TOKENS) & (prefill_ms + tokens * step_ms <= budget_ms)
    return (tokens + more).astype(np.int64)


def longest(
    estimator: Predicts, columns: Mapping[str, object], budget_ms: object, quantile: float | None
) -> NDArray[np.int64]:
    """Return the tokens that fit into each row's budget: 0 where not even the first does."""
    if has_tensors(columns):
        from pytest_vlmlatency.estimator.tensors import longest_tensors  # noqa: PLC0415

        return cast("NDArray[np.int64]", longest_tensors(estimator, columns, budget_ms, quantile))
    prefill_ms, step_ms = predicted_at(estimator, columns, quantile)
    budget = budget_of(budget_ms)
    _check_lengths(len(prefill_ms), budget=budget)
    return tokens_within(prefill_ms, step_ms, budget)


def budget_of(budget_ms: object) -> FloatArray:
    """Return a budget, or one a row, in ms."""
    budget = _numbers(budget_ms)
    if not np.all(budget > 0) or not np.all(np.isfinite(budget)):
        raise EstimatorProblem(f"a budget is {budget_ms!r} ms; expected a finite time above 0 ms")
    return budget


def output_length(estimator: Predicts, limits: Limits) -> FloatArray:
    """Return the tokens to be planned for, a number or one for each row."""
    if limits.percentile is not None:
        return np.asarray(estimator.state.output_tokens[math.ceil(limits.percentile)])
    tokens = _numbers(limits.expected_output_tokens)
    if not np.all(tokens >= 1) or not np.all(np.isfinite(tokens)):
        raise EstimatorProblem(
            f"expected_output_tokens is {limits.expected_output_tokens!r}; expected at least 1 "
            f"token"
        )
    return tokens


def _numbers(values: object) -> FloatArray:
    """Return numbers as they are, and NaN, which is no budget and no length, for all else."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.asarray(None)
    return array.astype(np.float64) if array.dtype.kind in "iuf" else np.asarray(np.nan)


def _check_lengths(n_rows: int, **given: FloatArray) -> None:
    """Refuse a list that is neither of one value nor of one for each request."""
    try:
        n_dimensions = len(np.broadcast_shapes((n_rows,), *(one.shape for one in given.values())))
    except ValueError:
        n_dimensions = 0
    if n_dimensions != 1:
        raise EstimatorProblem(
            f"{' and '.join(f'{name} of the shape {one.shape}' for name, one in given.items())} "
            f"do not go with {n_rows} requests; expected one number, or one for each request"
        )
