"""What other tools do to call a run slower, as they document or publish it; in own code.

The first three take comparisons x rounds of the last run and of the candidate. `otava_steps` takes
the values of one history.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Times = NDArray[np.float64]
Flags = NDArray[np.bool_]

FAIL_RATIO = 1.05
"""`--benchmark-compare-fail=median:5%` of pytest-benchmark."""

MANN_WHITNEY_P = 0.01

ASV_FACTOR = 1.1
ASV_P = 0.002
"""`asv compare`: worse by this factor at least, and Mann and Whitney's p below this."""

OTAVA_P = 0.001
OTAVA_WINDOW = 50
"""Defaults of Fleming et al., "Hunter: using change point detection to hunt for performance
regressions", ICPE 2023, which Apache Otava grew from."""


def median_over(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is more than 5 % above the last run's."""
    medians = (np.median(rounds, axis=-1) for rounds in (candidate_ms, last_ms))
    candidate, last = medians
    return np.asarray(candidate > FAIL_RATIO * last)


def mann_whitney(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's rounds are slower by Mann and Whitney's one-sided test."""
    test = stats.mannwhitneyu(candidate_ms, last_ms, alternative="greater", axis=-1)
    return np.asarray(test.pvalue < MANN_WHITNEY_P)


def asv_compare(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is 1.1 times the last one's, and the rounds differ."""
    candidate, last = (np.median(rounds, axis=-1) for rounds in (candidate_ms, last_ms))
    test = stats.mannwhitneyu(candidate_ms, last_ms, axis=-1)
    return np.asarray((candidate > ASV_FACTOR * last) & (test.pvalue < ASV_P))


def otava_steps(values: Times) -> dict[int, float]:
    """Return where levels begin in the last 50 values, with the ratio of the means.

    E-divisive (Matteson and James, 2014) finds the likeliest split, Student's t of the values left
    and right of it, not permutations, says whether it is one, and both sides are split further.
    """
    return _split(values[-OTAVA_WINDOW:], max(0, len(values) - OTAVA_WINDOW))


def _split(values: Times, offset: int) -> dict[int, float]:
    if len(values) < 4:
        return {}
    split = 2 + int(np.argmax(energies(values)[2:-1]))
    left, right = values[:split], values[split:]
    if not stats.ttest_ind(left, right).pvalue < OTAVA_P:
        return {}
    found = {offset + split: float(right.mean() / left.mean())}
    return found | _split(left, offset) | _split(right, offset + split)


def energies(values: Times) -> Times:
    """Return the energy distance between both sides of each split, -inf at the ends.

    It is m n / (m + n) times (twice the mean distance between the sides less the mean distance
    within each): Matteson and James, "A nonparametric approach for multiple change point analysis
    of multivariate data", 2014, (5) with alpha = 1.
    """
    n_values = len(values)
    sums = np.pad(np.abs(values[:, None] - values).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    m = np.arange(2, n_values - 1)
    n = n_values - m
    inside_left = sums[m, m]
    across = sums[m, n_values] - inside_left
    inside_right = sums[n_values, n_values] - inside_left - 2 * across
    distance = 2 * across / (m * n) - inside_left / (m * (m - 1)) - inside_right / (n * (n - 1))
    result = np.full(n_values, -np.inf)
    result[2 : n_values - 1] = m * n / (m + n) * distance
    return result
