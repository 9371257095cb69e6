"""The values of one input, as numbers, however they are written; a tier by its name.

Checked here: what a value may be at all. How inputs go together is `inputs`'s.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

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
