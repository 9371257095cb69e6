"""The value of a run: its rounds as one number, and how much its rounds spread. Pure.

All of the gate is done in logarithms of milliseconds: a change is a difference there, noise is a
share of the latency, and scaling every round changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.stats.rule import GateRule

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
