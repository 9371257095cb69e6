"""What an estimator is asked: inputs as columns, one row a request, however a user writes them.

Scalars, lists, arrays and tensors are broadcast against one another; a tier is a name or an index.
Owns no record; see `columns` for those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_vlmlatency.errors import EstimatorProblem

INPUTS = ("vision_tokens", "text_tokens", "tier_idx", "top_k", "num_active_blocks")
TIERS = ("low", "medium", "high")
ALIASES = {  # a record's names, and the word for the index
    "actual_vision_tokens": "vision_tokens",
    "actual_text_tokens": "text_tokens",
    "tier": "tier_idx",
}

FloatArray = NDArray[np.float64]
Column = NDArray[Any]  # float64; a category's is of strings
Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Knob:
    """A further input, by declaration: an amount (more is never faster) or a category."""

    name: str
    is_category: bool = False

    def __post_init__(self) -> None:
        if self.name in INPUTS or self.name in ALIASES or not self.name:
            raise EstimatorProblem(
                f"{self.name!r} cannot be declared as a further knob: the inputs that are always "
                f"read are {', '.join(INPUTS)}; name another field of the records"
            )


def tier_index(tier: object) -> object:
    """Return the index of a tier's name; whatever is no name is returned as it is."""
    if not isinstance(tier, str):
        return tier
    if tier.lower() not in TIERS:
        raise EstimatorProblem(
            f"there is no tier {tier!r}; a tier is one of {', '.join(TIERS)}, or its index 0, 1, 2"
        )
    return TIERS.index(tier.lower())


def columns_of(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, Column]:
    """Return the `needed` inputs as columns of one length (1 if all are scalars).

    Further inputs that an estimator may have (all of `INPUTS`, and `knobs`) are left out; any other
    name is an error, so that a misspelt one is never ignored.
    """
    named = named_inputs(asked, needed, knobs=knobs)
    categories = {knob.name for knob in knobs if knob.is_category}
    return broadcast(
        {name: column(name, value, name in categories) for name, value in named.items()}
    )


def named_inputs(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, object]:
    """Return the `needed` inputs as they were given, under their own names; see `columns_of`."""
    named = _under_their_names(asked, [knob.name for knob in knobs])
    missing = [name for name in needed if name not in named]
    if missing:
        raise EstimatorProblem(
            f"the inputs lack {', '.join(missing)}; seen: {', '.join(asked) or 'nothing'}; "
            f"this estimator needs {', '.join(needed)}"
        )
    return {name: named[name] for name in needed}


def column(name: str, values: object, is_category: bool = False) -> Column:  # noqa: FBT001, FBT002
    """Return one input as an array of float64 (a category's: of strings), of any shape."""
    if is_category:
        return np.asarray(values, dtype=np.str_)
    if name == "tier_idx" and not isinstance(values, np.ndarray | float | int):
        values = _tier_indices(values)
    if _is_tensor(values):
        values = values.detach().cpu().numpy()  # type: ignore[attr-defined]  # a tensor, unimported
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EstimatorProblem(
            f"{name} must be a number, a list, an array or a tensor of numbers, "
            f"not {_shown(values)}"
        ) from error
    if not np.all(numbers >= 0) or not np.all(np.isfinite(numbers)):
        bad = numbers[~((numbers >= 0) & np.isfinite(numbers))]
        raise EstimatorProblem(
            f"{name} is {bad.flat[0]}; expected a finite number that is not below 0"
        )
    return numbers


def broadcast(columns: Columns) -> dict[str, Column]:
    """Return the columns at one common length; lengths that do not go together are an error."""
    try:
        shape = np.broadcast_shapes((1,), *(values.shape for values in columns.values()))
    except ValueError as error:
        lengths = ", ".join(f"{name} {values.shape}" for name, values in columns.items())
        raise EstimatorProblem(
            f"the inputs have lengths that do not go together: {lengths}; give scalars, or lists "
            f"of one length"
        ) from error
    if len(shape) > 1:
        raise EstimatorProblem(
            f"the inputs have the shape {shape}; expected one row a request: flatten them"
        )
    return {name: np.broadcast_to(values, shape) for name, values in columns.items()}


def values_of(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, float | str] | None:
    """Return the `needed` inputs of one request; None if `columns_of` must look at them.

    A short cut for plain scalars: a loop that asks for one prediction at a time lives on it.
    """
    categories = [knob.name for knob in knobs if knob.is_category]
    values: dict[str, float | str] = {}
    for given, value in asked.items():
        name = ALIASES.get(given, given)
        plain = tier_index(value) if name == "tier_idx" else value
        is_category = name in categories
        if name in values or (name not in INPUTS and name not in needed):
            return None
        if is_category and isinstance(plain, str):
            values[name] = plain
        elif not is_category and isinstance(plain, int | float) and 0 <= plain < math.inf:
            values[name] = float(plain)
        else:
            return None
    return {name: values[name] for name in needed} if all(n in values for n in needed) else None


def has_tensors(asked: Mapping[str, object]) -> bool:
    """Whether an input is a tensor; torch is not imported to find out."""
    return any(_is_tensor(value) for value in asked.values())


def _is_tensor(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def are_scalars(asked: Mapping[str, object]) -> bool:
    """Whether the inputs are one request, written without lists."""
    return all(isinstance(value, str) or np.ndim(value) == 0 for value in asked.values())  # type: ignore[arg-type]  # whatever it is


def _under_their_names(asked: Mapping[str, object], knobs: Sequence[str]) -> dict[str, object]:
    known = (*INPUTS, *ALIASES, *knobs)
    named: dict[str, object] = {}
    for name, value in asked.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise EstimatorProblem(
                f"there is no input {name!r}; {hint}Inputs are {', '.join((*INPUTS, *knobs))}; "
                f"declare a further knob where the estimator is made"
            )
        official = ALIASES.get(name, name)
        if official in named:
            raise EstimatorProblem(f"{official} is given twice, once as {name!r}; give it once")
        named[official] = value
    return named


def _tier_indices(values: object) -> object:
    if isinstance(values, str):
        return tier_index(values)
    if isinstance(values, list | tuple):
        return [tier_index(value) for value in values]
    return values


def _shown(values: object) -> str:
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
