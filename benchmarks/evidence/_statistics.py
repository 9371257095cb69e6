"""The few statistics that the evidence is judged by. Pure.

A median's interval is of order statistics: it assumes nothing of the distribution, which on a
shared host has a long tail, and needs no random numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from scipy.stats import beta

CONFIDENCE = 0.95
FEWEST = 6
"""Values below which the smallest and the largest enclose the median in less than 95 % of cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A median and the interval that encloses the true one with at least 95 % confidence."""

    middle: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside, the ends included."""
        return self.low <= value <= self.high


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its interval of order statistics; at least `FEWEST` values."""
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values have no 95 % interval; expected at least {FEWEST}")
    ordered = sorted(values)
    n_cut = _n_outside(len(ordered))
    return Interval(middle=median(ordered), low=ordered[n_cut], high=ordered[-1 - n_cut])


def rate_interval(n_hits: int, n_all: int) -> tuple[float, float]:
    """Return the ends of a rate's 95 % interval after Clopper and Pearson (1934)."""
    outside = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(outside, n_hits, n_all - n_hits + 1)) if n_hits else 0.0
    high = float(beta.ppf(1 - outside, n_hits + 1, n_all - n_hits)) if n_hits < n_all else 1.0
    return low, high


def interquartile_range(values: Sequence[float]) -> float:
    """Return the width of the middle half of the values."""
    first, _, third = quantiles(values, n=4, method="inclusive")
    return third - first


def _n_outside(n: int) -> int:
    """Return how many values may be cut off at each end.

    The true median lies below the k-th smallest of n values (k from 0) with the probability that
    at most k of n fair coins show heads (David and Nagaraja, Order Statistics, 7.1).
    """
    below = 0.0
    for k in range(n):
        below += math.comb(n, k) / 2**n
        if below > (1 - CONFIDENCE) / 2:
            return k - 1
    raise AssertionError("half of the coins show heads at the latest")
