"""What an estimator is asked in tensors: on one device, of any shape together, tiers by name too.

Tensors on an accelerator are not checked, as looking at them would wait for it: a NaN gives a NaN,
which fits no budget. torch is imported by whoever made the tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import (
    TIERS,
    Column,
    Knob,
    column,
    common_shape,
    named_inputs,
)
from pytest_vlmlatency.estimator.physics import TEXT, TOKENS, VISION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
