"""What the best of predictors would be off by, from repeated measurements of the same work. Pure.

A perfect predictor knows the middle of what a piece of work takes, over all passes, and misses the
noise. That has two parts. A pass as a whole may be slower than another: so much is known from all
works together, and is missed in full. What is left of a call is compared with the calls of the same
work in the other pass, by their median: not with its own pass, whose calls follow each other and
share noise. Such a median is off itself, by how much follows from what calls of a pass share, for
normal noise; that is taken out. Of noise with longer tails too little is: up to 6 % of the error if
it is Laplace's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.columns import Table

    Times = NDArray[np.float64]
    Indices = NDArray[np.int64]

SEED = 3407
N_DRAWS = 200_000
N_RESAMPLED = 10_000
OUTSIDE = (0.025, 0.975)
N_PASSES = 2
FEWEST = 2  # calls of a work in a pass
DIGITS = 2  # of a share of noise: more would not change what is simulated from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Perfect:
    """What a perfect predictor misses of each record; their mean is its mean relative error.

    `shift` is by how much, in parts of 1, one pass as a whole was slower than the other; `shared`
    the part of the other noise's variance that calls of a work in one pass have in common.
    """

    misses: Times
    shift: float
    shared: float


def works_of(table: Table) -> Indices:
    """Return the index of each record's work: the same sample under the same configuration."""
    samples = [_parts_of(source)[1] for source in table.sources]
    sample = np.unique(samples, return_inverse=True)[1]
    pairs = sample * (table.configuration.max() + 1) + table.configuration
    return np.unique(pairs, return_inverse=True)[1].astype(np.int64)


def perfect_of(table: Table) -> dict[str, Perfect]:
    """Return what a perfect predictor would miss, by target."""
    works = works_of(table)
    runs = np.array([_parts_of(source)[0] for source in table.sources])
    order = list(dict.fromkeys(runs))
    groups = [
        tuple(np.flatnonzero((works == work) & (runs == run)) for run in order)
        for work in np.unique(works)
    ]
    for passes in groups:
        counts = [len(rows) for rows in passes]
        if len(counts) != N_PASSES or min(counts) < FEWEST:
            raise ValueError(
                f"a piece of work was measured {counts} times by pass; expected {N_PASSES} passes "
                f"of {FEWEST} calls or more each, or nothing is known of its noise"
            )
    return {
        PREFILL: _perfect(table.prefill_ms, groups),
        DECODE_STEP: _perfect(table.decode_per_step_ms, groups),
    }


def intervals_of(table: Table, known: Mapping[str, Perfect]) -> dict[str, tuple[float, float]]:
    """Return between what the perfect predictor's error lies with 95 %, by target.

    Samples are drawn anew, with all of their records: what is measured one after the other shares
    noise, so that records by themselves would make it look more certain than it is.
    """
    cases = [_parts_of(source)[1].partition("{")[0] for source in table.sources]
    sample = np.unique(cases, return_inverse=True)[1]
    n_samples = int(sample.max()) + 1
    drawn = np.random.default_rng(SEED).integers(0, n_samples, (N_RESAMPLED, n_samples))
    intervals = {}
    for target, perfect in known.items():
        sums = np.bincount(sample, weights=perfect.misses)[drawn].sum(axis=1)
        means = sums / np.bincount(sample)[drawn].sum(axis=1)
        low, high = np.quantile(means, OUTSIDE)
        intervals[target] = (float(low), float(high))
    return intervals


def own_median_errors(table: Table) -> dict[str, float]:
    """Return the mean relative error of what no predictor can know, by target.

    That is the median of all calls of a work, the very call that it is judged by among them.
    """
    works = works_of(table)
    errors = {}
    for target, measured_ms in (
        (PREFILL, table.prefill_ms),
        (DECODE_STEP, table.decode_per_step_ms),
    ):
        medians = np.array([np.median(measured_ms[works == work]) for work in np.unique(works)])
        errors[target] = float(np.abs(medians[works] / measured_ms - 1).mean())
    return errors


@cache
def inflation(n_others: int, shared: float) -> float:
    """Return how many times larger an error is against the median of another pass's calls than
    against the true middle, for normal noise of which calls of a pass share a part.
    """
    rng = np.random.default_rng(SEED)
    call, common = rng.standard_normal((2, N_DRAWS))
    own = rng.standard_normal((N_DRAWS, n_others))
    others = np.sqrt(shared) * common[:, None] + np.sqrt(1 - shared) * own
    off = np.abs(call - np.median(others, axis=1))
    return float(off.mean() / np.abs(call).mean())


def _perfect(measured_ms: Times, groups: list[tuple[Indices, ...]]) -> Perfect:
    log = np.log(measured_ms)
    slower = [np.median(log[first]) - np.median(log[second]) for first, second in groups]
    shift = float(np.median(slower)) / 2  # of the first pass from the middle, and back
    for first, second in groups:
        log[first] -= shift
        log[second] += shift
    shared = _shared(log, groups)
    misses = np.full(len(log), np.nan)
    for first, second in groups:
        for rows, others, own in ((first, second, shift), (second, first, -shift)):
            noise = (log[rows] - np.median(log[others])) / inflation(len(others), shared)
            misses[rows] = np.abs(np.exp(-(own + noise)) - 1)
    return Perfect(misses=misses, shared=shared, shift=abs(2 * shift))


def _shared(log: Times, groups: list[tuple[Indices, ...]]) -> float:
    """Return the share of the noise's variance that calls of a work in one pass have in common.

    Two calls of one pass differ by their own noise alone, two of different passes by all of it.
    """
    within = [abs(log[i] - log[j]) for passes in groups for i, j in _pairs_within(passes)]
    across = [abs(log[i] - log[j]) for first, second in groups for i in first for j in second]
    return round(max(0.0, 1 - float(np.mean(within) / np.mean(across)) ** 2), DIGITS)


def _pairs_within(passes: tuple[Indices, ...]) -> Iterator[tuple[int, int]]:
    for rows in passes:
        yield from combinations(rows, 2)


def _parts_of(source: str | None) -> tuple[str, str]:
    """Return the run and the case of a source, `run/dataset/sample{configuration}#round`."""
    run, _, rest = (source or "").partition("/")
    case = rest.rpartition("#")[0]
    if not case:
        raise ValueError(f"the source {source!r} names no case; expected run/dataset/sample#round")
    return run, case
