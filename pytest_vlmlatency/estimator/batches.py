"""What one training step is given: refused before a weight changes, where it means nothing.

B examples. Owns no weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import INPUTS
from pytest_vlmlatency.estimator.layers import inputs_of
from pytest_vlmlatency.estimator.recipes import PER_STEP, PER_TOKEN, PREFILL, Recipe, explained

if TYPE_CHECKING:
    from collections.abc import Mapping


def examples_of(batch: Mapping[str, Tensor], recipe: Recipe, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs (B, 5) and times (B, 2), each name there and all of one length."""
    key = recipe.decode_key
    other = PER_STEP if key == PER_TOKEN else PER_TOKEN
    if key not in batch and other in batch:
        raise explained(recipe, other)
    for name in (PREFILL, key):
        if name not in batch:
            raise EstimatorProblem(
                f"a batch lacks {name!r}; expected {', '.join(INPUTS)}, "
                f"{PREFILL} and {key}, seen: {', '.join(batch)}"
            )
    inputs = inputs_of(batch, like)
    if not len(inputs):
        raise EstimatorProblem("the batch is empty; expected at least one example: leave it out")
    return inputs, torch.stack([_times(batch, name, inputs) for name in (PREFILL, key)], dim=-1)


def check_examples(inputs: Tensor, times_ms: Tensor, recipe: Recipe, *, is_first: Tensor) -> bool:
    """Refuse values that mean nothing; return `is_first`, of which all is known in one wait.

    Every example has a prefill time above 0 ms. A decode step that is NaN is one that there was not
    (N = 1); decode / N is always there. The first batch sets the scale of both times, so it needs
    one of each.
    """
    is_input = (inputs >= 0) & inputs.isfinite()
    is_time = (times_ms > 0) & times_ms.isfinite()
    is_right = is_time.clone()
    if recipe is Recipe.MENDED:
        is_right[:, 1] |= times_ms[:, 1].isnan()
    facts = [is_input.all(), is_right.all(), is_time[:, 1].any(), is_first]
    inputs_are, times_are, has_decode, first = torch.stack(facts).tolist()
    if not inputs_are:
        raise _told(INPUTS, inputs, is_input, "finite amounts that are not below 0")
    if not times_are:
        mask = " (NaN where there was no decode step)" if recipe is Recipe.MENDED else ""
        names = (PREFILL, recipe.decode_key)
        raise _told(names, times_ms, is_right, f"finite times above 0 ms{mask}")
    if first and not has_decode:
        raise EstimatorProblem(
            f"{recipe.decode_key} is NaN in all {len(inputs)} examples of the first batch, which "
            f"sets the scale of both times; expected at least one: begin with another batch. No "
            f"weight was changed"
        )
    return bool(first)


def _times(batch: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    try:
        times = torch.as_tensor(batch[name]).to(inputs).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EstimatorProblem(
            f"{name} is no tensor of numbers ({error}); expected times in ms"
        ) from error
    if len(times) != len(inputs):
        raise EstimatorProblem(
            f"{name} has {len(times)} values for {len(inputs)} examples; expected one for each: "
            f"the inputs and both times are all (B,)"
        )
    return times


def _told(
    names: tuple[str, ...], values: Tensor, is_right: Tensor, expected: str
) -> EstimatorProblem:
    """Return the error for the first name that has wrong values."""
    index = int((~is_right).any(0).nonzero()[0])
    wrong = values[~is_right[:, index], index]
    return EstimatorProblem(
        f"{names[index]} has {len(wrong)} of {len(values)} values that mean nothing, the first "
        f"being {float(wrong[0]):g}; expected {expected}. No weight was changed"
    )
