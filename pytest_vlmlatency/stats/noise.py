"""The noise between runs: what one comparison saw of it, moderated by all the others. Pure.

A history of ten runs knows its own noise to within a quarter. All comparisons of one pytest run
ran on one machine, so each borrows from the others: an empirical Bayes estimate after Smyth,
"Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", Statistical Applications in Genetics and Molecular Biology 3 (2004), article 3.

The value of a run: its rounds as one number, and how much its rounds spread. Pure.

All of the gate is done in logarithms of milliseconds: a change is a difference there, noise is a
share of the latency, and scaling every round changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

from scipy.special import digamma, fdtri, polygamma, stdtr, stdtrit

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.stats.rule import GateRule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


FEWEST_TO_POOL = 3
"""Fewer histories don't show how different the noise of two comparisons is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """A variance of logs of milliseconds, and the degrees of freedom that it is worth.

    `is_assumed`: it rests on fewer runs than say how much runs differ (`GateRule.min_runs`).
    """

    variance: float
    df: float
    is_assumed: bool = False

    @property
    def ratio(self) -> float:
        """The standard deviation as a share of the latency: 0.01 is 1 %."""
        return math.sqrt(self.variance)

    def moderated(self, variance: float, df: float) -> Noise:
        """Return this noise and an observed variance together, weighted by their df.

        Smyth 2004, (3): (d0 s0^2 + d s^2) / (d0 + d), of d0 + d degrees of freedom.
        """
        whole = self.df + df
        moderated = (self.df * self.variance + df * variance) / whole
        return replace(self, variance=moderated, df=whole)


def fallback_noise(rule: GateRule) -> Noise:
    """Return what is assumed of the noise between runs where nothing tells of it."""
    return Noise(variance=rule.fallback_noise_ratio**2, df=rule.fallback_df, is_assumed=True)


def pool_noise(
    histories: Iterable[Sequence[Sequence[float]]], *, rule: GateRule | None = None
) -> Noise:
    """Return the noise between runs that the histories of one pytest run's comparisons share.

    Give it to `judge` for each of them. Runs without a value are left out; fewer than three
    histories of two runs leave the rule's fallback. Where none has `min_runs` it is assumed: what
    the same two runs show in many comparisons is still one difference of two processes.
    """
    rule = rule or GateRule()
    observed = [
        (variance_of([value.log_ms for value in values]), len(values) - 1)
        for values in (usable_values(history, rule) for history in histories)
        if len(values) > 1
    ]
    if len(observed) < FEWEST_TO_POOL:
        return fallback_noise(rule)
    dfs = [df for _, df in observed]
    fitted = _fitted([max(one, rule.min_noise_ratio**2) for one, _ in observed], dfs, rule)
    return replace(fitted, is_assumed=max(dfs) + 1 < rule.min_runs)


def usable_values(history: Sequence[Sequence[float]], rule: GateRule) -> list[RunValue]:
    """Return the values of the runs that have one, in order."""
    values = (value_of(rounds, rule) for rounds in history)
    return [value for value in values if isinstance(value, RunValue)]


def variance_of(values: Sequence[float]) -> float:
    """Return the variance about the mean with n - 1 degrees of freedom; at least two values."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def p_above(t: float, df: float) -> float:
    """Return the chance that Student's t is above `t`."""
    return float(stdtr(df, -t))


@lru_cache(maxsize=1024)
def t_quantile(df: float, p: float) -> float:
    """Return what Student's t exceeds with the chance `p`."""
    return -float(stdtrit(df, p))


@lru_cache(maxsize=1024)
def f_quantile(df: int, p: float) -> float:
    """Return what the ratio of two variances of `df` each exceeds with the chance `p`."""
    return float(fdtri(df, df, 1 - p))


def _fitted(variances: Sequence[float], dfs: Sequence[int], rule: GateRule) -> Noise:
    """Return the prior that the variances were drawn with (Smyth 2004, section 6.2).

    With e = log s^2 - digamma(d/2) + log(d/2), the spread of e beyond trigamma(d/2) gives d0 and
    its mean gives s0^2. At most `max_prior_df`, and no more than was observed altogether.
    """
    halves = [df / 2 for df in dfs]
    logs = [
        math.log(variance) - float(digamma(half)) + math.log(half)
        for variance, half in zip(variances, halves, strict=True)
    ]
    excess = variance_of(logs) - fmean(float(polygamma(1, half)) for half in halves)
    most = min(rule.max_prior_df, float(sum(dfs)))
    df = most if excess <= 0 else min(2 * _inverse_trigamma(excess), most)
    variance = math.exp(fmean(logs) + float(digamma(df / 2)) - math.log(df / 2))
    return Noise(variance=max(variance, rule.min_noise_ratio**2), df=df)


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = value, by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-9:
            break
    return x


FASTEST_HALF_VARIANCE = 1.363
"""n times the variance of the mean of the fastest half of n normal rounds of variance 1.

With p = 1/2, q = 0 and m = -2 phi(0) = -0.798 it is (Var(X | X < q) + (1 - p) (q - m)^2) / p
= 2 (0.363 + 0.318): Stigler, "The asymptotic distribution of the trimmed mean", 1973.
"""


@dataclass(frozen=True, slots=True)
class RunValue:
    """A run as it is compared. `log_ms`: its value; `round_variance`: of one round's log.

    `n_rounds` counts the rounds that were kept.
    """

    log_ms: float
    round_variance: float
    n_rounds: int

    @property
    def value_variance(self) -> float:
        """What the rounds alone let the value vary, were runs all alike."""
        return FASTEST_HALF_VARIANCE * self.round_variance / self.n_rounds


@dataclass(frozen=True, slots=True)
class Unusable:
    """A run that has no value, and why."""

    reason: str


def value_of(rounds_ms: Sequence[float], rule: GateRule) -> RunValue | Unusable:
    """Return the value of a run: the mean of the fastest half of its logs, warm-up dropped.

    What slows rounds down (interrupts, throttling, a neighbour) is added to what the code takes,
    so the fastest half says most about the code; and its mean uses more of them than a median or
    a minimum. A time that cannot be raises `InvalidMeasurement`. A round of no time at all belongs
    to a phase that did not occur, which is no error, but has no value.
    """
    return _value_of(tuple(rounds_ms), rule)


@lru_cache(maxsize=2**14)  # a run is asked for by the noise, the screen and the report
def _value_of(rounds_ms: tuple[float, ...], rule: GateRule) -> RunValue | Unusable:
    rounds = [float(round_ms) for round_ms in rounds_ms]
    for index, round_ms in enumerate(rounds):
        if not 0 <= round_ms < math.inf:
            raise InvalidMeasurement(
                f"round {index} of {len(rounds)} took {round_ms} ms; expected a finite time, "
                f"0 or more. Judge only what was measured"
            )
    kept = sorted(rounds[rule.n_warmup_rounds :])
    if len(kept) < rule.min_rounds:
        return Unusable(
            f"{len(kept)} of {len(rounds)} rounds are left after {rule.n_warmup_rounds} of "
            f"warm-up; at least {rule.min_rounds} are needed"
        )
    if kept[0] == 0:
        return Unusable(f"{kept.count(0)} of {len(kept)} rounds took no time at all")
    logs = [math.log(round_ms) for round_ms in kept]
    n_fastest = math.ceil(len(logs) * rule.fastest_share)
    value = math.fsum(logs[:n_fastest]) / n_fastest
    return RunValue(value, _round_variance(logs), len(logs))


def _round_variance(ordered: Sequence[float]) -> float:
    """Return the lower semivariance about the median: a symmetrical distribution's variance.

    Slow outliers and throttled rounds lie above the median and don't touch it.
    """
    n_below = len(ordered) // 2
    upper = ordered[n_below]
    middle = upper if len(ordered) % 2 else (ordered[n_below - 1] + upper) / 2
    return math.fsum((log_ms - middle) ** 2 for log_ms in ordered[:n_below]) / n_below
