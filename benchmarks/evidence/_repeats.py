"""What the best of predictors would be off by, from repeated measurements of the same work. Pure.

A perfect predictor knows the middle of what a piece of work takes, and misses the noise of a single
call. The middle is known from the other calls of that work: their median, the best guess there is
by absolute error, never the call itself. A median of few calls is off itself; that is taken out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.columns import Table

SEED = 3407
N_DRAWS = 200_000


def works_of(table: Table) -> NDArray[np.int64]:
    """Return the index of each record's work: the same sample under the same configuration."""
    samples = [_sample_of(source) for source in table.sources]
    sample = np.unique(samples, return_inverse=True)[1]
    pairs = sample * (table.configuration.max() + 1) + table.configuration
    return np.unique(pairs, return_inverse=True)[1].astype(np.int64)


def perfect_misses(table: Table) -> dict[str, NDArray[np.float64]]:
    """Return by how much of each measured time a perfect predictor misses it, by target.

    The mean of it over records is the perfect predictor's mean relative error.
    """
    works = works_of(table)
    return {
        PREFILL: _misses(table.prefill_ms, works),
        DECODE_STEP: _misses(table.decode_per_step_ms, works),
    }


@cache
def inflation(n_others: int) -> float:
    """Return how many times larger an error is against a median of so many calls than against
    the true middle, of normal noise.

    The median of noise with longer tails lies closer: dividing by this then takes out too much,
    and what others are compared with is too good, never too bad.
    """
    draws = np.random.default_rng(SEED).standard_normal((N_DRAWS, n_others + 1))
    off = np.abs(draws[:, 0] - np.median(draws[:, 1:], axis=1))
    return float(off.mean() / np.abs(draws[:, 0]).mean())


def _misses(measured_ms: NDArray[np.float64], works: NDArray[np.int64]) -> NDArray[np.float64]:
    misses = np.empty(len(works))
    for work in np.unique(works):
        rows = np.flatnonzero(works == work)
        if len(rows) < 2:
            raise ValueError(
                f"record {rows[0]} is the only one of its work; expected it to be repeated, or "
                f"nothing is known of its noise"
            )
        for row in rows:
            middle_ms = np.median(measured_ms[rows[rows != row]])
            misses[row] = abs(middle_ms / measured_ms[row] - 1) / inflation(len(rows) - 1)
    return misses


def _sample_of(source: str | None) -> str:
    """Return the data set and the sample of a source, `run/dataset/sample#round`."""
    case = (source or "").partition("/")[2].rpartition("#")[0]
    if not case:
        raise ValueError(
            f"the source {source!r} names no sample; expected run/dataset/sample#round"
        )
    return case
