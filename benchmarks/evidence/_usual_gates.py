"""What other tools do to call a run slower, as they document or publish it; in own code.

The first three take comparisons x rounds of the last run and of the candidate, and say of each
comparison whether it is slower. `otava_steps` takes the values of one history, a value a run.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Times = NDArray[np.float64]
Flags = NDArray[np.bool_]

FAIL_RATIO = 1.05
"""`--benchmark-compare-fail=median:5%` of pytest-benchmark."""

MANN_WHITNEY_P = 0.01

ASV_FACTOR = 1.1
ASV_P = 0.002
"""`asv compare`, 0.6: worse by this factor, and Mann and Whitney's two-sided p below this."""

OTAVA_P = 0.001
OTAVA_WEAK = 10
OTAVA_WINDOW = 50
"""Fleming et al., "Hunter: using change point detection to hunt for performance regressions", ICPE
2023, which Apache Otava grew from, with the defaults of Otava 0.8."""


def median_over(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is more than 5 % above the last run's."""
    return np.asarray(np.median(candidate_ms, axis=-1) > FAIL_RATIO * np.median(last_ms, axis=-1))


def mann_whitney(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's rounds are slower by Mann and Whitney's one-sided test."""
    test = stats.mannwhitneyu(candidate_ms, last_ms, alternative="greater", axis=-1)
    return np.asarray(test.pvalue < MANN_WHITNEY_P)


def asv_compare(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is over 1.1 times the last one's, and the rounds differ."""
    is_worse = np.median(candidate_ms, axis=-1) > ASV_FACTOR * np.median(last_ms, axis=-1)
    test = stats.mannwhitneyu(candidate_ms, last_ms, axis=-1, method="exact")
    return np.asarray(is_worse & (test.pvalue < ASV_P))


def otava_steps(values: Times) -> dict[int, float]:
    """Return where levels begin, with the ratio of the level's mean to that before it.

    In windows of 50 values that overlap by half, E-divisive finds splits, each tested with
    Student's t instead of permutations, at ten times the level. Then the weakest is taken out until
    all that are left differ from their neighbours at the level itself.
    """
    weak: set[int] = set()
    start = 0
    while start < len(values):
        found = [start + split for split in _divided(values[start : start + OTAVA_WINDOW])]
        weak.update(found)
        start = max([start + OTAVA_WINDOW // 2, *found])
    splits = sorted(weak)
    while splits:
        levels = np.split(values, splits)
        chances = [t_test(*both) for both in pairwise(levels)]
        weakest = int(np.argmax(chances))
        if chances[weakest] < OTAVA_P:
            ratios = [after.mean() / before.mean() for before, after in pairwise(levels)]
            return dict(zip(splits, map(float, ratios), strict=True))
        del splits[weakest]
    return {}


def _divided(values: Times) -> list[int]:
    """Return the splits of E-divisive: the likeliest of all segments, while it is significant."""
    splits: list[int] = []
    while True:
        bounds = [0, *splits, len(values)]
        found = [
            (*likeliest_split(values[start:end]), start, end)
            for start, end in pairwise(bounds)
            if end - start > 1
        ]
        if not found:
            return splits
        _, split, start, end = max(found)
        if not t_test(values[start : start + split], values[start + split : end]) < (
            OTAVA_WEAK * OTAVA_P
        ):
            return splits
        splits = sorted([*splits, start + split])


def likeliest_split(values: Times) -> tuple[float, int]:
    """Return the largest scaled energy distance of values[:t] and values[t:k], and its t.

    With sides of n and m values, of all t and all k, it is m n / (m + n) times twice the mean
    distance between the sides less the mean distance within each: Matteson and James, "A
    nonparametric approach for multiple change point analysis of multivariate data", Journal of the
    American Statistical Association 109 (2014), (5) to (7) with alpha = 1.
    """
    distances = np.abs(values[:, None] - values)
    sums = np.pad(distances.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    n_values = len(values)
    n = np.arange(1, n_values)[:, None]
    ends = np.arange(2, n_values + 1)
    m = np.maximum(ends - n, 1)
    left = np.diag(sums)[1:-1, None]
    across = sums[1:-1, 2:] - left
    right = np.diag(sums)[2:] - left - 2 * across
    within = left / np.maximum(n * (n - 1), 1) + right / np.maximum(m * (m - 1), 1)
    energies = np.where(ends > n, m * n / (m + n) * (2 * across / (m * n) - within), -np.inf)
    best = int(np.argmax(energies))
    return float(energies.flat[best]), best // energies.shape[1] + 1


def t_test(left: Times, right: Times) -> float:
    """Return Student's two-sided p of two means, variances taken as equal; 1 for two values."""
    df = len(left) + len(right) - 2
    if df == 0:
        return 1.0
    variance = (len(left) * left.var() + len(right) * right.var()) / df
    error = np.sqrt(variance * (1 / len(left) + 1 / len(right)))
    difference = abs(float(left.mean() - right.mean()))
    if error == 0:
        return 0.0 if difference else 1.0
    return float(2 * special.stdtr(df, -difference / error))
