"""How far measured times lie from predicted ones: quantiles that hold their coverage.

The ratios measured / predicted of records that a fit has not seen are kept in order. A quantile
of a prediction is the prediction times the ratio that the same share of them stays below, with the
one more that a finite number needs (split conformal prediction, Vovk et al. 2005, over folds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.inputs import FloatArray

MOST_KEPT = 999  # with k / 1000 as shares: quantiles that are asked for stay exact


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
