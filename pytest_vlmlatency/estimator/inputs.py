"""The inputs of an estimator as columns, one row per request.

Scalars, lists, arrays and tensors are broadcast against one another; a tier is a name or an index.
`columns` owns the inputs of records.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from pytest_vlmlatency.errors import EstimatorProblem

TIERS = ("low", "medium", "high")
TIER_INDICES = (0, 1, 2)

FloatArray = NDArray[np.float64]
Column = NDArray[Any]  # float64; a category's is of strings


def column(name: str, values: object, is_category: bool = False) -> Column:  # noqa: FBT001, FBT002
    """Return one input as an array of float64 (a category's: of strings), of any shape."""
    if is_category:
        return np.asarray(values, dtype=np.str_)
    given = values
    if name == "tier_idx":
        values = tier_indices(values)
    if is_tensor(values):
        values = values.detach().cpu().numpy()  # type: ignore[attr-defined]  # a tensor, unimported
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" and not _are_numbers(array):
            raise TypeError("text, None or something else that is no number")
        numbers = np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EstimatorProblem(
            f"{name} must be a number, a list, an array or a tensor of numbers, not {shown(given)}"
        ) from error
    if name == "tier_idx":
        return _checked_tiers(numbers)
    if not np.all(numbers >= 0) or not np.all(np.isfinite(numbers)):
        bad = numbers[~((numbers >= 0) & np.isfinite(numbers))]
        raise EstimatorProblem(
            f"{name} is {bad.flat[0]}; expected a finite number that is not below 0"
        )
    return numbers


def tier_index(tier: object) -> object:
    """Return the index of a tier's name; whatever is no name is returned as it is."""
    if not isinstance(tier, str):
        return tier
    if tier.lower() not in TIERS:
        raise EstimatorProblem(
            f"there is no tier {tier!r}; a tier is one of {', '.join(TIERS)}, or its index 0, 1, 2"
        )
    return TIERS.index(tier.lower())


def tier_indices(values: object) -> object:
    """Return names as indices, alone, in lists and in arrays; whatever is no name stays."""
    if isinstance(values, int | float) or is_tensor(values):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in "UO":
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [tier_indices(value) for value in values]
    return tier_index(values)


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor; torch is not imported to find out."""
    return type(value).__module__.partition(".")[0] == "torch"


def is_on_accelerator(value: object) -> bool:
    """Whether a value is a tensor that lies where looking at it means waiting for it."""
    return is_tensor(value) and value.device.type != "cpu"  # type: ignore[attr-defined]  # a tensor, unimported


def shown(values: object) -> str:
    """Return a value as an error shows it, cut off where it is long."""
    text = repr(values)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _checked_tiers(indices: FloatArray) -> FloatArray:
    known = (indices == 0) | (indices == 1) | (indices == 2)
    if not known.all():
        raise EstimatorProblem(
            f"tier_idx is {indices[~known].flat[0]:g}; a tier is one of {', '.join(TIERS)}, or its "
            f"index 0, 1, 2"
        )
    return indices


def _are_numbers(array: Column) -> bool:
    """Whether an array of Python's objects, of mixed types or whole numbers of any size, is one."""
    return array.dtype.kind == "O" and all(isinstance(value, Real) for value in array.flat)


__all__ = [
    "ALIASES",
    "INPUTS",
    "TIERS",
    "Column",
    "Columns",
    "FloatArray",
    "Knob",
    "are_scalars",
    "broadcast",
    "column",
    "columns_of",
    "common_shape",
    "has_tensors",
    "named_inputs",
    "shape_of",
    "tier_index",
    "values_of",
]

INPUTS = ("vision_tokens", "text_tokens", "tier_idx", "top_k", "num_active_blocks")
ALIASES = {  # a record's names, and the word for the index
    "actual_vision_tokens": "vision_tokens",
    "actual_text_tokens": "text_tokens",
    "tier": "tier_idx",
}

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


def columns_of(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, Column]:
    """Return the `needed` inputs as columns of one length (1 if all are scalars).

    Of what an estimator may have (`INPUTS` and `knobs`) all that is given is checked and decides
    the length, needed or not; any other name is an error, so that a misspelt one is never ignored.
    """
    named = _all_named(asked, needed, knobs)
    categories = {knob.name for knob in knobs if knob.is_category}
    columns = broadcast(
        {name: column(name, value, name in categories) for name, value in named.items()}
    )
    return {name: columns[name] for name in needed}


def named_inputs(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, object]:
    """Return the `needed` inputs as they were given, under their own names; see `shape_of`."""
    named = _all_named(asked, needed, knobs)
    return {name: named[name] for name in needed}


def shape_of(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> tuple[int, ...]:
    """Return the shape that all that is given has together, some of it being tensors.

    All is checked as in `columns_of` but the tensors that are needed, which whoever predicts checks
    where they lie, and those on an accelerator, as looking at them would wait for it.
    """
    categories = {knob.name for knob in knobs if knob.is_category}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, value in _all_named(asked, needed, knobs).items():
        if is_tensor(value) and (name in needed or is_on_accelerator(value)):
            shapes[name] = tuple(cast("Column", value).shape)
        else:
            shapes[name] = column(name, value, name in categories).shape
    return common_shape(shapes)


def broadcast(columns: Columns) -> dict[str, Column]:
    """Return the columns at one common length; see `common_shape`."""
    shape = common_shape({name: values.shape for name, values in columns.items()}) or (1,)
    if len(shape) > 1:
        raise EstimatorProblem(
            f"the inputs have the shape {shape}; expected one row a request: flatten them"
        )
    if shape == (1,):  # one request, in a fifth of the time
        return {name: values.reshape(shape) for name, values in columns.items()}
    return {name: np.broadcast_to(values, shape) for name, values in columns.items()}


def values_of(
    asked: Mapping[str, object], needed: Sequence[str], *, knobs: Sequence[Knob] = ()
) -> dict[str, float | str] | None:
    """Return the `needed` inputs of one request; None if `columns_of` must look at them.

    A short cut for plain scalars: a loop that asks for one prediction at a time lives on it.
    """
    categories = [knob.name for knob in knobs if knob.is_category]
    values: dict[str, float | str] = {}
    for given, value in _entries(asked):
        name = ALIASES.get(given, given)
        plain = tier_index(value) if name == "tier_idx" else value
        if name in values or (name not in INPUTS and name not in needed):
            return None
        if name in categories and isinstance(plain, str):
            values[name] = plain
        elif name not in categories and _is_amount(plain, known=_KNOWN.get(name)):
            values[name] = float(plain)
        else:
            return None
    return {name: values[name] for name in needed} if all(n in values for n in needed) else None


def has_tensors(asked: Mapping[str, object]) -> bool:
    """Whether an input is a tensor; torch is not imported to find out."""
    return any(is_tensor(value) for _, value in _entries(asked))


def are_scalars(asked: Mapping[str, object]) -> bool:
    """Whether the inputs are one request, written without lists."""
    return all(isinstance(value, str) or np.ndim(value) == 0 for _, value in _entries(asked))  # type: ignore[arg-type]  # whatever it is


_KNOWN = {"tier_idx": TIER_INDICES}


def _is_amount(value: object, *, known: Sequence[int] | None) -> TypeGuard[float]:
    is_number = isinstance(value, int | float) and 0 <= value < math.inf
    return is_number and (known is None or value in known)


def _entries(asked: Mapping[str, object]) -> ItemsView[str, object]:
    """Return the names and values of a request, or say how requests are written."""
    if not isinstance(asked, Mapping):
        raise EstimatorProblem(
            f"the inputs are {shown(asked)}; expected a mapping of names to values, in which "
            f'several requests are lists: {{"vision_tokens": [288, 576], "text_tokens": 30, ...}}'
        )
    return asked.items()


def _all_named(
    asked: Mapping[str, object], needed: Sequence[str], knobs: Sequence[Knob]
) -> dict[str, object]:
    """Return all that is given under its own name; what is needed must be among it."""
    named = _under_their_names(asked, [knob.name for knob in knobs])
    missing = [name for name in needed if name not in named]
    if missing:
        raise EstimatorProblem(
            f"the inputs lack {', '.join(missing)}; seen: {', '.join(asked) or 'nothing'}; "
            f"this estimator needs {', '.join(needed)}"
        )
    return named


def _under_their_names(asked: Mapping[str, object], knobs: Sequence[str]) -> dict[str, object]:
    known = (*INPUTS, *ALIASES, *knobs)
    named: dict[str, object] = {}
    for name, value in _entries(asked):
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
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


def common_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape that inputs have together, () for scalars; or an error that tells each."""
    lists = {shape for shape in shapes.values() if shape}
    if len(lists) < 2:
        return next(iter(lists), ())
    try:
        return np.broadcast_shapes(*lists)
    except ValueError as error:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise EstimatorProblem(
            f"the inputs have shapes that do not go together: {told}; give scalars, or lists and "
            f"tensors of one shape"
        ) from error
