"""The screen: the candidate's run against the runs of its history. Pure.

Most comparisons end here as the same. What may have changed leaves as a `Suspicion`, to be
confirmed by fresh pairs: runs of two processes can't tell a changed code from a process that got
another memory layout or clock, however many rounds they have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.noise import (
    Noise,
    fallback_noise,
    p_above,
    t_quantile,
    usable_values,
    variance_of,
)
from pytest_vlmlatency.gate.rule import GateRule
from pytest_vlmlatency.gate.values import RunValue, Unusable, value_of
from pytest_vlmlatency.records import Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A comparison that the screen could not call the same: fresh pairs have to say.

    `unconfirmed`: the judgement where no pair can be had. `noise`: between runs, as the screen
    estimated it; `round_variance`: of one round; `n_rounds`: of the candidate. `may_be_slower`
    and `may_be_faster`: which changes of the target's size the screen could not rule out, so that
    pairs must.
    """

    unconfirmed: Judgement
    noise: Noise
    round_variance: float
    n_rounds: int
    may_be_slower: bool
    may_be_faster: bool


def screen(
    history: Sequence[Sequence[float]],
    candidate: Sequence[float],
    *,
    noise: Noise | None = None,
    rule: GateRule | None = None,
    is_disturbed: bool = False,
) -> Judgement | Suspicion:
    """Judge a run by the history alone: the same, or suspicious, or nothing can be said.

    `is_disturbed`: throttling or contention was seen in the candidate or its history. A change is
    then never called slower or faster without fresh pairs.
    """
    rule = rule or GateRule()
    value = value_of(candidate, rule)
    if isinstance(value, Unusable):
        return Judgement(verdict=Verdict.UNDECIDED, reason=f"the run has no value: {value.reason}")
    values = usable_values(history, rule)
    prior = noise or fallback_noise(rule)
    if not values:
        return _without_history(history, value, prior)
    return _compared(values, value, prior, rule, is_disturbed=is_disturbed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """The candidate less the mean of its history, in logs, and the noise of that difference."""

    log: float
    error: float
    df: float

    def bound(self, risk: float) -> float:
        return t_quantile(self.df, risk) * self.error

    def p(self) -> float:
        """Return the chance of a change as large in its direction where there is none."""
        return p_above(abs(self.log) / self.error, self.df)


def _compared(
    values: list[RunValue], candidate: RunValue, prior: Noise, rule: GateRule, *, is_disturbed: bool
) -> Judgement | Suspicion:
    """Return the same, or a suspicion, by a moderated t (Smyth 2004) of one run against n."""
    n_runs = len(values)
    logs = [value.log_ms for value in values]
    round_variance = fmean([value.round_variance for value in (*values, candidate)])
    noise = _noise_between(logs, candidate, round_variance, prior, rule)
    change = _Change(
        log=candidate.log_ms - math.fsum(logs) / n_runs,
        error=math.sqrt(noise.variance * (1 + 1 / n_runs)),
        df=noise.df,
    )
    target, room = math.log1p(rule.target_ratio), change.bound(rule.target_risk)
    is_certain = change.p() < rule.screen_alpha and abs(change.log) > math.log1p(
        rule.min_effect_ratio
    )
    may_be_slower = change.log + room >= target or (is_certain and change.log > 0)
    may_be_faster = change.log - room <= -target or (is_certain and change.log < 0)
    if not (may_be_slower or may_be_faster):
        return _judgement(
            Verdict.SAME,
            f"a change of {rule.target_ratio:.1%} is ruled out by {_counted(n_runs, 'run')}",
            change,
            n_runs,
            rule,
        )
    return Suspicion(
        unconfirmed=_unconfirmed(change, n_runs, rule, is_disturbed=is_disturbed),
        noise=noise,
        round_variance=round_variance,
        n_rounds=candidate.n_rounds,
        may_be_slower=may_be_slower,
        may_be_faster=may_be_faster,
    )


def _noise_between(
    logs: list[float], candidate: RunValue, round_variance: float, prior: Noise, rule: GateRule
) -> Noise:
    """Return the moderated noise, no less than what the rounds of a run alone make of it."""
    seen = prior.moderated(variance_of(logs), len(logs) - 1) if len(logs) > 1 else prior
    of_rounds = RunValue(0.0, round_variance, candidate.n_rounds).value_variance
    least = max(of_rounds, rule.min_noise_ratio**2)
    return seen if seen.variance >= least else Noise(variance=least, df=seen.df)


def _unconfirmed(change: _Change, n_runs: int, rule: GateRule, *, is_disturbed: bool) -> Judgement:
    """Return what the history alone says of a suspicion: rarely more than undecided."""
    is_changed = change.p() < rule.alpha and abs(change.log) > math.log1p(rule.min_effect_ratio)
    towards = Verdict.SLOWER if change.log > 0 else Verdict.FASTER
    runs = _counted(n_runs, "run")
    if not is_changed:
        verdict, reason = (
            Verdict.UNDECIDED,
            f"{runs} neither rule out a change of {rule.target_ratio:.1%} nor show one, and no "
            f"fresh pairs were measured",
        )
    elif n_runs < rule.min_runs:
        verdict, reason = (
            Verdict.UNDECIDED,
            f"{towards} by {runs}, which do not say how much runs differ: {rule.min_runs} are "
            f"needed, or fresh pairs",
        )
    elif is_disturbed:
        verdict, reason = (
            Verdict.UNDECIDED,
            f"{towards} by {runs}, but throttling or contention was seen and no fresh pairs were "
            f"measured",
        )
    else:
        verdict, reason = towards, f"{towards} by {runs} of history alone (p {change.p():.1g})"
    return _judgement(verdict, reason, change, n_runs, rule)


def _without_history(
    history: Sequence[Sequence[float]], candidate: RunValue, prior: Noise
) -> Suspicion:
    """Return a suspicion: without a baseline run both versions have to be measured now."""
    why = f"none of {len(history)} baseline runs has a value" if len(history) else "no baseline run"
    return Suspicion(
        unconfirmed=Judgement(
            verdict=Verdict.UNDECIDED, reason=f"{why}, and no fresh pairs were measured"
        ),
        noise=prior,
        round_variance=candidate.round_variance,
        n_rounds=candidate.n_rounds,
        may_be_slower=True,
        may_be_faster=True,
    )


def _judgement(
    verdict: Verdict, reason: str, change: _Change, n_runs: int, rule: GateRule
) -> Judgement:
    room = change.bound((1 - rule.confidence) / 2)
    return Judgement(
        verdict=verdict,
        reason=reason,
        change_ratio=math.exp(change.log),
        low_ratio=math.exp(change.log - room),
        high_ratio=math.exp(change.log + room),
        n_runs=n_runs,
    )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
