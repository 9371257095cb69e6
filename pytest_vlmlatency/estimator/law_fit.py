"""From records to a law: physics products, what the data ask for beside them, and coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.nonnegative import fit_nonnegative
from pytest_vlmlatency.estimator.offset import is_offset_told
from pytest_vlmlatency.estimator.physics import Families, amounts_of, base_terms, families
from pytest_vlmlatency.estimator.selection import ENOUGH_RECORDS, Choices, choose_families, some
from pytest_vlmlatency.estimator.terms import Law, Term, design

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import FloatArray

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
