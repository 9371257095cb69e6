"""Whether hinges, steps or tiles earn their place: on records that the fit has not seen.

A family of terms is kept if it lowers the error on configurations left out by more than its own
doubt, and does not raise it where the top level of an input is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.nonnegative import fit_nonnegative
from pytest_vlmlatency.estimator.splits import Mask, configuration_folds, random_folds, top_levels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import FloatArray

BASE_PRIOR = 10.0  # physics is free to carry all of the time
EXTRA_PRIOR = 0.1  # a hinge or step that carries a tenth of the time costs as much as one sigma
N_FOLDS = 4
ENOUGH_RECORDS = 4_000  # choosing among some twenty terms is as certain as with more
LEAST_GAIN = 0.02  # of the error, for a family to be worth its terms
N_DOUBTS = 2.0  # standard errors that a gain must exceed
MOST_LOSS = 1.05  # where extrapolating


@dataclass(frozen=True, slots=True)
class Choices:
    """What may be chosen from: a matrix of all candidate terms, and which belong together."""

    matrix: FloatArray
    measured_ms: FloatArray
    base: tuple[int, ...]
    families: Mapping[str, tuple[int, ...]]

    def prior(self, chosen: Sequence[int]) -> FloatArray:
        """Return the prior of each chosen column."""
        return np.where(np.isin(chosen, self.base), BASE_PRIOR, EXTRA_PRIOR)


def choose_families(choices: Choices, table: Table) -> tuple[str, ...]:
    """Return the families that are worth having, the most useful first."""
    inside, outside = _folds(table)
    chosen: tuple[str, ...] = ()
    error, beyond = _errors(choices, chosen, inside), _errors(choices, chosen, outside)
    while True:
        best: tuple[float, str, FloatArray, FloatArray] | None = None
        for name in choices.families.keys() - set(chosen):
            new = _errors(choices, (*chosen, name), inside)
            if not _is_gain(error - new, error):
                continue
            new_beyond = _errors(choices, (*chosen, name), outside)
            if outside and new_beyond.mean() > MOST_LOSS * beyond.mean():
                continue
            if best is None or (float(new.mean()), name) < best[:2]:
                best = float(new.mean()), name, new, new_beyond
        if best is None:
            return chosen
        chosen, error, beyond = (*chosen, best[1]), best[2], best[3]


def columns_with(choices: Choices, chosen: Sequence[str]) -> list[int]:
    """Return the columns of the base and of the chosen families."""
    return [*choices.base, *(index for name in chosen for index in choices.families[name])]


def some(table: Table, n_most: int, *, among: Mask | None = None, seed: int = 0) -> Table:
    """Return the records of a mask (None: all), or `n_most` of them at random."""
    n_records = len(table) if among is None else int(among.sum())
    if n_records <= n_most:
        return table if among is None else table.rows(among)
    chosen = np.sort(np.random.default_rng(seed).permutation(n_records)[:n_most])
    return table.rows(chosen if among is None else np.flatnonzero(among)[chosen])


def _folds(table: Table) -> tuple[list[Mask], list[Mask]]:
    inside = configuration_folds(table.configuration, N_FOLDS)
    outside = [top for _, top in top_levels(table)]
    return inside or random_folds(len(table), N_FOLDS), outside


def _is_gain(gained: FloatArray, error: FloatArray) -> bool:
    doubt = float(gained.std()) / math.sqrt(len(gained))
    return float(gained.mean()) > max(LEAST_GAIN * float(error.mean()), N_DOUBTS * doubt)


def _errors(choices: Choices, chosen: Sequence[str], held_out: Sequence[Mask]) -> FloatArray:
    """Return the relative errors on records that were left out, in the order of the folds."""
    columns = columns_with(choices, chosen)
    matrix, prior = choices.matrix[:, columns], choices.prior(columns)
    errors = [np.empty(0)]
    for out in held_out:
        fit = fit_nonnegative(matrix[~out], choices.measured_ms[~out], prior)
        measured_ms = choices.measured_ms[out]
        errors.append(np.abs(matrix[out] @ fit.coefficients / measured_ms - 1))
    return np.concatenate(errors)
