"""Predictions on tensors: on their device, in one pass, and differentiable in what is continuous.

A gradient follows tokens, experts and blocks through products and hinges; a step, a tile and a
category have none. Values on an accelerator are not checked, as looking at them would wait for it:
a NaN gives a NaN, which fits no budget. torch is imported by whoever made the tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never, cast

import numpy as np
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import MOST_TOKENS, Limits, Predicts, output_length
from pytest_vlmlatency.estimator.inputs import (
    Column,
    Columns,
    Knob,
    columns_of,
    named_inputs,
)
from pytest_vlmlatency.estimator.physics import TEXT, TOKENS, VISION
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.terms import Factor, Law, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.estimator.roofline import RooflineModel
    from pytest_vlmlatency.estimator.state import State

Tensors = dict[str, torch.Tensor]  # both targets, of the shape that the inputs have together
Amounts = dict[str, torch.Tensor | Column]  # a category stays an array of strings


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
    """Return what a model without tensors predicts, on the device of the inputs; no gradient."""
    device = _first_tensor(asked).device
    columns = columns_of(asked, inputs, knobs=knobs)
    return {target: torch.as_tensor(ms, device=device) for target, ms in predict(columns).items()}


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
    outside = torch.zeros((), dtype=torch.bool, device=_first_tensor(asked).device)
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
    n_tokens = limits.expected_output_tokens
    if not isinstance(n_tokens, torch.Tensor):
        n_tokens = prefill_ms.new_tensor(output_length(estimator, limits))
    budget_ms = torch.as_tensor(limits.budget_ms, dtype=prefill_ms.dtype, device=prefill_ms.device)
    inside = prefill_ms + (n_tokens - 1) * step_ms <= budget_ms
    if limits.prefill_share is not None:
        inside = inside & (prefill_ms <= limits.prefill_share * budget_ms)
    return inside


def longest_tensors(
    estimator: Predicts, asked: Mapping[str, object], budget_ms: object, quantile: float | None
) -> torch.Tensor:
    """Return the tokens that fit into each budget, as int64 on the device of the inputs."""
    prefill_ms, step_ms = (ms.detach() for ms in _predicted(estimator, asked, quantile))
    budget = torch.as_tensor(budget_ms, dtype=prefill_ms.dtype, device=prefill_ms.device)
    room = torch.floor((budget - prefill_ms) / step_ms).clamp(max=MOST_TOKENS)
    tokens = torch.where(budget >= prefill_ms, 1 + room, 0)
    return torch.nan_to_num(tokens, nan=0.0).to(torch.int64)


def amounts_of(
    asked: Mapping[str, object], inputs: Sequence[str], knobs: Sequence[Knob]
) -> Amounts:
    """Return the inputs on one device, and all tokens; they may have any shape together."""
    categories = [knob.name for knob in knobs if knob.is_category]
    like = _first_tensor(asked)
    dtype = torch.promote_types(like.dtype, torch.float32)
    amounts: Amounts = {}
    for name, value in named_inputs(asked, inputs, knobs=knobs).items():
        if name in categories:
            amounts[name] = np.asarray(value, dtype=np.str_)
        else:
            amounts[name] = _checked(name, torch.as_tensor(value, device=like.device).to(dtype))
    present = [cast("torch.Tensor", amounts[name]) for name in (VISION, TEXT) if name in amounts]
    if present:
        amounts[TOKENS] = present[0] if len(present) == 1 else present[0] + present[1]
    return amounts


def _checked(name: str, values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu" and not bool(((values >= 0) & values.isfinite()).all()):
        raise EstimatorProblem(
            f"{name} has values that are below 0 or not finite; expected finite amounts"
        )
    return values


def _of_law(law: Law, amounts: Amounts) -> torch.Tensor:
    shape = np.broadcast_shapes(*(tuple(values.shape) for values in amounts.values()))
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


def _first_tensor(asked: Mapping[str, object]) -> torch.Tensor:
    """Return a tensor among the inputs; of several devices, torch itself says what is wrong."""
    return next(value for value in asked.values() if isinstance(value, torch.Tensor))
