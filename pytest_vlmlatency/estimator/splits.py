"""Records set apart: at random, by configuration, and with the top level of an input left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.estimator.columns import Table

Mask = NDArray[np.bool_]

SEED = 3407
MOST_LEVELS = 12  # above this an input has no levels, and its top fifth is left out
TOP_SHARE = 0.2
LEAST_LEFT = 20  # records that must be left on both sides


def random_folds(n_records: int, n_folds: int, *, seed: int = SEED) -> list[Mask]:
    """Return masks of the records held out, each record in exactly one."""
    order = np.random.default_rng(seed).permutation(n_records)
    return [np.isin(np.arange(n_records), order[fold::n_folds]) for fold in range(n_folds)]


def configuration_folds(
    configuration: NDArray[np.int64], n_folds: int, *, seed: int = SEED
) -> list[Mask]:
    """Return masks of the records held out, by whole configurations; [] if there is only one."""
    ids = np.random.default_rng(seed).permutation(np.unique(configuration))
    n_folds = min(n_folds, len(ids))
    if n_folds < 2:
        return []
    return [np.isin(configuration, ids[fold::n_folds]) for fold in range(n_folds)]


def top_levels(table: Table) -> Iterator[tuple[str, Mask]]:
    """Return, for each input, which records are of its top level and may be left out."""
    for name, values in table.columns.items():
        if values.dtype.kind != "f":
            continue
        levels = np.unique(values)
        if len(levels) < 2:
            continue
        bound = levels[-1] if len(levels) <= MOST_LEVELS else np.quantile(values, 1 - TOP_SHARE)
        top = values >= bound
        if LEAST_LEFT <= top.sum() <= len(table) - LEAST_LEFT:
            yield name, top
