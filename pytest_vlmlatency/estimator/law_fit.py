"""Fits a law on records: physics products, further terms where they help, and coefficients.

Coefficients come from non-negative least squares on relative errors, robust (Huber) and with a
ridge. It solves the normal equations, which have one row per coefficient, so each iteration passes
over the records once.

A decode's offset (its cost whatever its number of steps) is separated from the cost of a step by
outputs of different lengths alone. If lengths hardly differ, noise decides: the offset is then 0,
and all of the time is the steps'.

A family of terms (hinges, steps, tiles) is kept if it lowers the error on configurations left out
by more than that gain's own standard errors, and doesn't raise it beyond the top level of an
input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from pytest_vlmlatency.estimator.terms import (
    Families,
    Law,
    Term,
    amounts_of,
    base_terms,
    design,
    families,
    rows_at_once,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import FloatArray


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


HUBER = 1.345  # 95 % efficient where errors are normal (Huber 1964)
MAD_TO_SIGMA = 1.4826
N_ITERATIONS = 8
ENOUGH = 1e-5  # largest change of a fitted share at which iterating ends
LEAST_SIGMA = 1e-4  # errors are never taken to be smaller: noiseless records stay solvable
JITTER = 1e-10


@dataclass(frozen=True, slots=True)
class Fit:
    """Coefficients in the order of the matrix's columns, and the scale of relative errors."""

    coefficients: FloatArray
    sigma_ratio: float


def fit_nonnegative(matrix: FloatArray, measured_ms: FloatArray, prior: FloatArray) -> Fit:
    """Return coefficients >= 0 with the least robust relative error.

    `prior` says of each column what share of the time it may carry before it has to be paid for: a
    ridge, as of a normal prior of that width on the column's mean share.
    """
    expected_ms, sigma = measured_ms, 0.03
    weights = np.ones(len(measured_ms))
    shares = np.zeros(matrix.shape[1])
    coefficients = shares
    for _ in range(N_ITERATIONS):
        before = shares
        coefficients, shares = _solve(
            matrix, measured_ms, weights / expected_ms, (sigma / prior) ** 2
        )
        expected_ms = np.maximum(matrix @ coefficients, measured_ms * 1e-3)
        errors = measured_ms / expected_ms - 1
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(errors))), LEAST_SIGMA)
        weights = np.sqrt(np.minimum(1, HUBER * sigma / np.maximum(np.abs(errors), 1e-300)))
        if np.max(np.abs(shares - before), initial=0) < ENOUGH:
            break
    return Fit(coefficients, sigma)


def _solve(
    matrix: FloatArray, measured_ms: FloatArray, weights: FloatArray, ridge: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return coefficients, and the share of the time that each carries."""
    gram, toward = np.zeros((matrix.shape[1],) * 2), np.zeros(matrix.shape[1])
    for rows in rows_at_once(len(matrix)):
        weighted = matrix[rows] * weights[rows, None]
        gram += weighted.T @ weighted
        toward += weighted.T @ (measured_ms[rows] * weights[rows])
    scale = np.sqrt(np.maximum(np.diag(gram) / len(matrix), 1e-300))
    gram = gram / np.outer(scale, scale)
    gram[np.diag_indices_from(gram)] += ridge + JITTER * len(matrix)
    root = np.linalg.cholesky(gram)
    shares, _ = nnls(root.T, solve_triangular(root, toward / scale, lower=True), maxiter=2000)
    return shares / scale, shares


LEAST_SPREAD = 0.2
"""Of the offset's share of a record's time, relative: what the steps do not follow of it. An error
of 1 % that goes with the length then moves the step by 5 % at most; 15 and 16 tokens have 0.03, 8
to 24 tokens 0.35."""
N_NOT_ALONE = 3
"""Records without which lengths must still differ: an outlier among fewer would be the offset."""
MOST_DOUBT = 0.02
"""Of the time: the standard error of the offset's share up to which the share is taken as it is."""
LEAST_EXPECTED = 1e-3  # of what was measured, as in the fit: an expected 0 ms has no share
N_OFFSET_DOUBTS = 2.0  # standard errors that it must exceed where they are larger


def is_offset_told(matrix: FloatArray, measured_ms: FloatArray, fit: Fit) -> bool:
    """Return whether the offset (first column) is separable from the columns of steps.

    `fit` is of all columns. Seen are relative errors, as in the fit.
    """
    expected_ms = np.maximum(matrix @ fit.coefficients, measured_ms * LEAST_EXPECTED)
    once, alone = _alone(matrix, 1 / expected_ms)
    counted = 1 / expected_ms
    counted[np.argsort(alone**2)[-N_NOT_ALONE:]] = 0
    if not _spread(*_alone(matrix, counted)) >= LEAST_SPREAD:
        return False
    doubt_ms = fit.sigma_ratio / np.linalg.norm(alone)
    return bool(
        doubt_ms * once.mean() <= MOST_DOUBT or fit.coefficients[0] >= N_OFFSET_DOUBTS * doubt_ms
    )


def _alone(matrix: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weighted offset's column, and what those of steps cannot make of it.

    Of the columns of steps, some may be alike.
    """
    once = matrix[:, 0] * weights
    gram, toward = np.zeros((matrix.shape[1] - 1,) * 2), np.zeros(matrix.shape[1] - 1)
    for rows in rows_at_once(len(matrix)):
        steps = matrix[rows, 1:] * weights[rows, None]
        gram += steps.T @ steps
        toward += steps.T @ once[rows]
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    follows = np.linalg.pinv(gram / np.outer(scale, scale), rcond=1e-9, hermitian=True)
    parts: FloatArray = follows @ (toward / scale) / scale
    return once, once - matrix[:, 1:] @ parts * weights


def _spread(once: FloatArray, alone: FloatArray) -> float:
    whole = float(np.linalg.norm(once))
    return float(np.linalg.norm(alone)) / whole if whole else 0.0


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


NEGLIGIBLE = 1e-9  # of the time: a term that carries less is none


@dataclass(frozen=True, slots=True)
class Target:
    """What a law is fitted on. `times` says how often it applies to a record (None: once).

    Where it applies several times, an offset beside it takes up what is spent once, if the records
    can tell it.
    """

    products: Sequence[tuple[str, ...]]
    measured_ms: Callable[[Table], FloatArray]
    times: Callable[[Table], FloatArray] | None = None


@dataclass(frozen=True, slots=True)
class FittedLaw:
    """A law, the offset beside it, and the names of the families that were added."""

    law: Law
    offset_ms: float
    families: tuple[str, ...]


def fit_law(table: Table, target: Target, chosen: Sequence[str] | None = None) -> FittedLaw:
    """Return the law of a target; `chosen` families are taken over, None lets the data ask."""
    amounts = amounts_of(table.columns)
    base = base_terms(target.products, amounts, table.knobs)
    offered = families(target.products, amounts)
    if chosen is None:
        part = some(table, ENOUGH_RECORDS)
        chosen = choose_families(_choices(part, target, base, offered), part)
    kept = {name: offered[name] for name in chosen if name in offered}
    choices = _choices(table, target, base, kept)
    n_offsets = int(target.times is not None)
    coefficients = _coefficients(choices, n_offsets)
    return FittedLaw(
        _law(
            (*base, *(term for terms in kept.values() for term in terms)),
            coefficients[n_offsets:],
            choices.matrix[:, n_offsets:].mean(axis=0) / choices.measured_ms.mean(),
        ),
        float(coefficients[:n_offsets].sum()),
        tuple(kept),
    )


def _coefficients(choices: Choices, n_offsets: int) -> FloatArray:
    """Return the coefficient of each column; that of an offset which is not told is 0."""
    prior = choices.prior(range(choices.matrix.shape[1]))
    fit = fit_nonnegative(choices.matrix, choices.measured_ms, prior)
    if not n_offsets or is_offset_told(choices.matrix, choices.measured_ms, fit):
        return fit.coefficients
    of_steps = fit_nonnegative(choices.matrix[:, 1:], choices.measured_ms, prior[1:])
    return np.concatenate([[0.0], of_steps.coefficients])


def _choices(table: Table, target: Target, base: tuple[Term, ...], offered: Families) -> Choices:
    """Return the matrix of offset, base and families, in this order."""
    n_offsets = int(target.times is not None)
    once: tuple[Term, ...] = ((),) * n_offsets  # the constant
    terms = (*once, *base, *(term for more in offered.values() for term in more))
    matrix = design(terms, amounts_of(table.columns))
    if target.times is not None:
        matrix[:, n_offsets:] *= target.times(table)[:, None]
    first = n_offsets + len(base)
    columns: dict[str, tuple[int, ...]] = {}
    for name, more in offered.items():
        columns[name] = tuple(range(first, first + len(more)))
        first += len(more)
    return Choices(matrix, target.measured_ms(table), tuple(range(n_offsets + len(base))), columns)


def _law(terms: tuple[Term, ...], coefficients: FloatArray, shares_per_ms: FloatArray) -> Law:
    matters = coefficients * shares_per_ms > NEGLIGIBLE
    return Law(
        tuple(term for term, does in zip(terms, matters, strict=True) if does),
        tuple(float(value) for value in coefficients[matters]),
    )
