"""Predictions on tensors: on their device, in one pass, differentiable in what is continuous.

Gradients flow to tokens, experts and blocks through products and hinges; a step, a tile and a
category have none. Inputs may have any shapes that broadcast, tiers may be names. Tensors on an
accelerator are not checked, since reading them waits for it: a NaN predicts NaN, which fits no
budget. The caller imports torch by having tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never, cast

import numpy as np
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import (
    MOST_TOKENS,
    Limits,
    Predicts,
    budget_of,
    output_length,
)
from pytest_vlmlatency.estimator.inputs import (
    TIERS,
    Column,
    Columns,
    Knob,
    column,
    columns_of,
    common_shape,
    named_inputs,
)
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.terms import TEXT, TOKENS, VISION, Factor, Law, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.estimator.roofline import RooflineModel
    from pytest_vlmlatency.estimator.state import State


Amounts = dict[str, torch.Tensor | Column]  # a category stays an array of strings


def amounts_of(
    asked: Mapping[str, object], inputs: Sequence[str], knobs: Sequence[Knob]
) -> Amounts:
    """Return the inputs on one device, and all tokens; they may have any shape together."""
    categories = [knob.name for knob in knobs if knob.is_category]
    like = like_of(asked)
    dtype = torch.promote_types(like.dtype, torch.float32)
    amounts: Amounts = {}
    for name, value in named_inputs(asked, inputs, knobs=knobs).items():
        if name in categories:
            amounts[name] = np.asarray(value, dtype=np.str_)
        else:
            amounts[name] = amount_of(name, value).to(like.device, dtype)
    shape_of(amounts)
    present = [cast("torch.Tensor", amounts[name]) for name in (VISION, TEXT) if name in amounts]
    if present:
        amounts[TOKENS] = present[0] if len(present) == 1 else present[0] + present[1]
    return amounts


def amount_of(name: str, value: object) -> torch.Tensor:
    """Return one input as a tensor of its own shape: a tensor as it is, a tier by its index."""
    if isinstance(value, torch.Tensor) and name == "tier_idx":
        return checked(
            value,
            is_right=(value == 0) | (value == 1) | (value == 2),
            seen=f"{name} has values that are no tier",
            expected=f"{', '.join(TIERS)} by their index 0, 1, 2",
        )
    if isinstance(value, torch.Tensor):
        return checked(
            value,
            is_right=(value >= 0) & value.isfinite(),
            seen=f"{name} has values that are below 0 or not finite",
            expected="finite amounts",
        )
    return torch.from_numpy(np.array(column(name, value)))


def checked(
    values: torch.Tensor, *, is_right: torch.Tensor, seen: str, expected: str
) -> torch.Tensor:
    """Return values, or refuse those that mean nothing; an accelerator's are not looked at."""
    if is_right.device.type == "cpu" and not bool(is_right.all()):
        n_wrong = int((~is_right).sum())
        raise EstimatorProblem(f"{seen} ({n_wrong} of {is_right.numel()}); expected {expected}")
    return values


def shape_of(amounts: Amounts) -> tuple[int, ...]:
    """Return the shape that all amounts have together."""
    return common_shape({name: tuple(values.shape) for name, values in amounts.items()})


def tensors_in(asked: Mapping[str, object]) -> list[torch.Tensor]:
    """Return the tensors among the inputs."""
    return [value for value in asked.values() if isinstance(value, torch.Tensor)]


def like_of(asked: Mapping[str, object]) -> torch.Tensor:
    """Return the tensor whose device and dtype count: one on an accelerator, if there is one."""
    tensors = tensors_in(asked)
    return next((one for one in tensors if one.device.type != "cpu"), tensors[0])


Tensors = dict[str, torch.Tensor]  # both targets, of the shape that the inputs have together


def of_roofline(
    model: RooflineModel, asked: Mapping[str, object], knobs: Sequence[Knob]
) -> Tensors:
    """Return both targets in ms, on the device of the inputs."""
    amounts = amounts_of(asked, model.inputs, knobs)
    return {
        PREFILL: _of_law(model.prefill, amounts),
        DECODE_STEP: _of_law(model.decode, amounts),
    }


def through_numpy(
    predict: Callable[[Columns], Prediction],
    asked: Mapping[str, object],
    inputs: Sequence[str],
    knobs: Sequence[Knob],
) -> Tensors:
    """Return what a model without tensors predicts, in their shape and on their device.

    It has no gradient: to ask for one is an error, as it would be 0 unseen.
    """
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors_in(asked)):
        raise EstimatorProblem(
            "an input requires a gradient, and this estimator predicts through numpy, which has "
            "none; detach() the inputs or ask under torch.no_grad(). RooflineEstimator and "
            "LatencyEstimator predict with gradients"
        )
    amounts = amounts_of(asked, inputs, knobs)
    shape = shape_of(amounts)
    columns = columns_of(
        {
            name: np.broadcast_to(
                value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value, shape
            ).reshape(-1)
            for name, value in amounts.items()
            if name in inputs
        },
        inputs,
        knobs=knobs,
    )
    device = like_of(asked).device
    return {
        target: torch.as_tensor(ms, device=device).reshape(shape)
        for target, ms in predict(columns).items()
    }


def at_quantile(predicted: Tensors, state: State, asked: Mapping[str, object], q: float) -> Tensors:
    """Return predictions at a quantile, wider where an input lies outside what was measured."""
    outside = is_outside(state, asked)
    widened: Tensors = {}
    for target, ms in predicted.items():
        wide, narrow = (ms.new_tensor(factor) for factor in state.factors(target, q))
        widened[target] = ms * torch.where(outside, wide, narrow)
    return widened


def is_outside(state: State, asked: Mapping[str, object]) -> torch.Tensor:
    """Return where an amount lies outside its range."""
    amounts = amounts_of(asked, state.inputs, state.knobs)
    outside = torch.zeros((), dtype=torch.bool, device=like_of(asked).device)
    for name, (low, high) in state.ranges.items():
        values = amounts.get(name)
        if isinstance(values, torch.Tensor):
            outside = outside | (values < low) | (values > high)
    return outside


def within_tensors(
    estimator: Predicts, asked: Mapping[str, object], limits: Limits
) -> torch.Tensor:
    """Return which requests stay within the limits, on their device."""
    prefill_ms, step_ms = _predicted(estimator, asked, limits.quantile)
    budget_ms = _budget(limits.budget_ms, prefill_ms)
    n_tokens = lengths(estimator, limits)
    inside = _fits(n_tokens, prefill_ms, step_ms, budget_ms)
    if limits.prefill_share is not None:
        inside = inside & (prefill_ms <= limits.prefill_share * budget_ms)
    return inside


def longest_tensors(
    estimator: Predicts, asked: Mapping[str, object], budget_ms: object, quantile: float | None
) -> torch.Tensor:
    """Return the tokens that fit into each budget, as int64 on the device of the inputs.

    They are put together bit by bit, each by the question that a budget's check asks: a quotient is
    rounded, and would be one token off where a budget is made for a whole number of them.
    """
    prefill_ms, step_ms = (ms.detach() for ms in _predicted(estimator, asked, quantile))
    checked(
        step_ms,
        is_right=step_ms > 0,
        seen="a decode step is predicted to take 0 ms, so any number of tokens would fit",
        expected="at least one block and one token among the inputs",
    )
    budget = _budget(budget_ms, prefill_ms)
    n_tokens = torch.zeros_like(prefill_ms + step_ms + budget, dtype=torch.int64)
    for bit in reversed(range(MOST_TOKENS.bit_length())):
        more = n_tokens + 2**bit
        n_tokens = torch.where(_fits(more, prefill_ms, step_ms, budget), more, n_tokens)
    return n_tokens.clamp(max=1 + MOST_TOKENS)


def lengths(estimator: Predicts, limits: Limits) -> torch.Tensor:
    """Return the tokens to be planned for: float64 from numbers, a tensor as it was given."""
    n_tokens = limits.expected_output_tokens
    if not isinstance(n_tokens, torch.Tensor):
        return torch.from_numpy(np.array(output_length(estimator, limits)))
    return checked(
        n_tokens,
        is_right=(n_tokens >= 1) & n_tokens.isfinite(),
        seen="expected_output_tokens has values that are below 1 or not finite",
        expected="at least 1 token",
    )


def _budget(budget_ms: object, like: torch.Tensor) -> torch.Tensor:
    if not isinstance(budget_ms, torch.Tensor):
        return torch.from_numpy(np.array(budget_of(budget_ms))).to(like)
    return checked(
        budget_ms,
        is_right=(budget_ms > 0) & budget_ms.isfinite(),
        seen="the budget has values that are no time",
        expected="finite times above 0 ms",
    ).to(like)


def _fits(
    n_tokens: torch.Tensor, prefill_ms: torch.Tensor, step_ms: torch.Tensor, budget_ms: torch.Tensor
) -> torch.Tensor:
    """Return where prefill and n_tokens - 1 steps take no longer than a budget."""
    return prefill_ms + (n_tokens - 1).to(step_ms) * step_ms <= budget_ms


def _of_law(law: Law, amounts: Amounts) -> torch.Tensor:
    shape = shape_of(amounts)
    tensor = next(value for value in amounts.values() if isinstance(value, torch.Tensor))
    total_ms = tensor.new_zeros(shape)
    for term, coefficient in zip(law.terms, law.coefficients, strict=True):
        part_ms = tensor.new_tensor(coefficient)
        for factor in term:
            part_ms = part_ms * _of_factor(factor, amounts[factor.name], like=tensor)
        total_ms = total_ms + part_ms
    return total_ms


def _of_factor(
    factor: Factor, values: torch.Tensor | Column, *, like: torch.Tensor
) -> torch.Tensor:
    if not isinstance(values, torch.Tensor):
        return like.new_tensor(factor.of_column(values))
    at = factor.at if isinstance(factor.at, float) else 1.0
    match factor.shape:
        case Shape.AMOUNT:
            return values
        case Shape.ABOVE:
            return (values - at).clamp(min=0)
        case Shape.AT_LEAST:
            return (values >= at).to(values.dtype)
        case Shape.ROUNDED_UP:
            return torch.ceil(values / at) * at
        case Shape.IS:
            raise AssertionError("a category is no tensor")
        case _:
            assert_never(factor.shape)


def _predicted(
    estimator: Predicts, asked: Mapping[str, object], quantile: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    predicted = cast(
        "Tensors",
        estimator.predict_batch(asked)
        if quantile is None
        else estimator.predict_quantile(asked, quantile),
    )
    return predicted[PREFILL], predicted[DECODE_STEP]
