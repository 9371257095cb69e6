"""How far measured times lie from predicted ones: quantiles, spreads and outliers.

The ratios measured / predicted of records that a fit was not trained on are kept in order. A
quantile of a prediction is the prediction times the ratio at the same rank, one rank higher as a
finite sample needs (split conformal prediction, Vovk et al. 2005, over folds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import Table
from pytest_vlmlatency.estimator.law_fit import Mask, random_folds, some, top_levels
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.recipes import PER_TOKEN

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.inputs import Columns, FloatArray


MOST_KEPT = 999  # with k / 1000 as shares: usual quantiles stay exact


@dataclass(frozen=True, slots=True)
class Spread:
    """Ratios measured / predicted in rising order, inside what was measured and beyond it."""

    inside: tuple[float, ...]
    beyond: tuple[float, ...]

    def __post_init__(self) -> None:
        for ratios in (self.inside, self.beyond):
            if not ratios or not all(math.isfinite(ratio) and ratio > 0 for ratio in ratios):
                raise EstimatorProblem(
                    f"conformal ratios must be finite and above 0, and at least one; seen "
                    f"{len(ratios)}, the first being {ratios[:1]}"
                )
            if list(ratios) != sorted(ratios):
                raise EstimatorProblem("conformal ratios must be in rising order; these are not")

    def factor(self, q: float) -> float:
        """Return what a prediction is multiplied with, inside what was measured."""
        return _at(self.inside, q)

    def wide_factor(self, q: float) -> float:
        """Return the factor beyond it: never nearer to the median than inside."""
        inside, beyond = _at(self.inside, q), _at(self.beyond, q)
        if q == 0.5:
            return inside
        return max(inside, beyond) if q > 0.5 else min(inside, beyond)


def spread_of(inside: FloatArray, beyond: FloatArray) -> Spread:
    """Return the spread of ratios; with none beyond, those inside are doubled in width."""
    if not len(beyond):
        beyond = inside**2  # nothing to calibrate on: twice as far, on a log scale
    return Spread(_kept(inside), _kept(beyond))


def check_share(q: float) -> float:
    """Return `q`, or say what it must be."""
    if not isinstance(q, Real) or not 0 < q < 1:
        raise EstimatorProblem(f"a quantile is a share between 0 and 1, such as 0.95; seen {q!r}")
    return q


def _kept(ratios: FloatArray) -> tuple[float, ...]:
    if len(ratios) > MOST_KEPT:
        shares = np.arange(1, MOST_KEPT + 1) / (MOST_KEPT + 1)
        ratios = np.quantile(ratios, shares, method="higher")
    return tuple(float(ratio) for ratio in np.sort(ratios))


def _at(ratios: tuple[float, ...], q: float) -> float:
    """Return the ratio at rank ceil((n + 1) q), the last if there are too few for `q`."""
    rank = math.ceil((len(ratios) + 1) * q - 1e-9)  # 0.95 x 20 is 19, also in floats
    return ratios[min(max(rank, 1), len(ratios)) - 1]


ENOUGH_RECORDS = 10_000  # that a fold is fitted on: some twenty coefficients need no more
LEAST_DECODED = 8  # records with a decode step, without the top level of an input
FAR_IQR = 3.0  # interquartile ranges beyond the quartiles: 4.7 sigma where errors are normal


class Model(Protocol):
    """What was learnt: never changes once it is fitted."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that a prediction needs."""

    def predict(self, columns: Columns) -> Prediction:
        """Return both targets in ms."""


AnyModel = TypeVar("AnyModel", bound=Model)
Train = Callable[[Table], Model]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A record far from what records like it took. It stays in every fit and every evaluation."""

    record: int  # its place among the records, from 0
    source: str | None
    target: str
    measured_ms: float
    expected_ms: float


def measured(table: Table) -> Prediction:
    """Return what was measured, also as in the legacy format: decode over N.

    A decode step is NaN where there was none.
    """
    return {
        PREFILL: table.prefill_ms,
        DECODE_STEP: table.decode_per_step_ms,
        PER_TOKEN: table.decode_ms / table.output_tokens,
    }


def unseen_predictions(table: Table, train: Train, n_folds: int) -> Prediction:
    """Return what is predicted for each record by a fit that has not seen it."""
    predicted: Prediction = {}
    for seed, out in enumerate(random_folds(len(table), min(n_folds, len(table)))):
        _fill(predicted, table, train, out, seed)
    return predicted


def ratios_beyond(table: Table, train: Train) -> dict[str, FloatArray]:
    """Return measured / predicted where the top level of an input was left out of the fit."""
    found: dict[str, list[FloatArray]] = {}
    for seed, (_, top) in enumerate(top_levels(table)):
        if table.has_decode[~top].sum() < LEAST_DECODED:
            continue  # what is left can teach no decode
        predicted: Prediction = {}
        _fill(predicted, table, train, top, seed)
        for target, ratios in ratios_of(
            table.rows(top), {target: values[top] for target, values in predicted.items()}
        ).items():
            found.setdefault(target, []).append(ratios)
    return {target: np.concatenate(ratios) for target, ratios in found.items()}


def ratios_of(table: Table, predicted: Prediction) -> dict[str, FloatArray]:
    """Return measured / predicted of each target, of the records that have it."""
    ratios: dict[str, FloatArray] = {}
    measured_ms = measured(table)
    for target, ms in predicted.items():
        has_it = np.isfinite(measured_ms[target]) & (ms > 0)
        ratios[target] = measured_ms[target][has_it] / ms[has_it]
    return ratios


def spreads(inside: dict[str, FloatArray], beyond: dict[str, FloatArray]) -> dict[str, Spread]:
    """Return the spread of each target."""
    nothing = np.empty(0)
    return {
        target: spread_of(ratios, beyond.get(target, nothing)) for target, ratios in inside.items()
    }


def outliers(table: Table, predicted: Prediction) -> tuple[Outlier, ...]:
    """Return the records whose residual lies far outside those of all, by target."""
    found: list[Outlier] = []
    for target, expected_ms in predicted.items():
        measured_ms = measured(table)[target]
        logs = np.log(measured_ms / expected_ms)
        low, high = np.nanquantile(logs, [0.25, 0.75])
        margin = FAR_IQR * (high - low)
        far = np.flatnonzero((logs < low - margin) | (logs > high + margin))
        sources = table.places.of(table.records[far])
        found += [
            Outlier(
                record=int(row),
                source=source,
                target=target,
                measured_ms=float(measured_ms[row]),
                expected_ms=float(expected_ms[row]),
            )
            for row, source in zip(far, sources, strict=True)
        ]
    return tuple(found)


def _fill(predicted: Prediction, table: Table, train: Train, out: Mask, seed: int) -> None:
    part = some(table, ENOUGH_RECORDS, among=~out, seed=seed)
    if not part.has_decode.any():
        raise EstimatorProblem(
            f"there are {int(table.has_decode.sum())} records with a decode step among "
            f"{len(table)}, and a fit without {int(out.sum())} of them saw none: how far off "
            f"predictions are cannot be told; measure more, with outputs of several tokens"
        )
    for target, values in train(part).predict(table.rows(out).columns).items():
        predicted.setdefault(target, np.full(len(table), np.nan))[out] = values
