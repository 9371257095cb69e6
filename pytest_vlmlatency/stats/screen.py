"""The screen: the candidate's run against the runs of its history. Pure.

Most comparisons end here as the same. What may have changed leaves as a `Suspicion`, to be
confirmed by fresh pairs: runs of two processes can't tell a changed code from a process that got
another memory layout or clock, however many rounds they have.

A change of one version against another: its size, its interval, and what it shows. Pure.

Verdict, interval and reason come from the same numbers, so none of them can contradict another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import plural
from pytest_vlmlatency.records import Judgement, Verdict
from pytest_vlmlatency.stats.noise import (
    Noise,
    RunValue,
    Unusable,
    fallback_noise,
    p_above,
    t_quantile,
    usable_values,
    value_of,
    variance_of,
)
from pytest_vlmlatency.stats.rule import GateRule

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A comparison that the screen could not call the same: fresh pairs have to say.

    `by_history`: the judgement by the history alone. `noise`: between runs, as the screen
    estimated it; `round_variance`: of one round; `n_rounds`: of the candidate.
    """

    by_history: Judgement
    noise: Noise
    round_variance: float
    n_rounds: int

    @property
    def unconfirmed(self) -> Judgement:
        """The judgement where no pair was measured."""
        return self.without_pairs("no fresh pairs were measured")

    def without_pairs(self, why: str) -> Judgement:
        """Return the history's judgement; where it is undecided, with why no pairs decided."""
        judgement = self.by_history
        if judgement.verdict is not Verdict.UNDECIDED:
            return judgement
        return replace(judgement, reason=f"{judgement.reason}, and {why}")


def screen(
    history: Sequence[Sequence[float]],
    candidate: Sequence[float],
    *,
    noise: Noise | None = None,
    rule: GateRule | None = None,
    is_disturbed: bool = False,
) -> Judgement | Suspicion:
    """Judge a run by the history alone: the same, or suspicious, or nothing can be said.

    `is_disturbed`: throttling or contention was seen in the candidate or its history. The history
    alone then decides nothing: a slow baseline hides a slowdown as well as it makes one up.
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


def _compared(
    values: list[RunValue], candidate: RunValue, prior: Noise, rule: GateRule, *, is_disturbed: bool
) -> Judgement | Suspicion:
    """Return the same, or a suspicion, by a moderated t (Smyth 2004) of one run against n."""
    n_runs = len(values)
    logs = [value.log_ms for value in values]
    round_variance = fmean([value.round_variance for value in (*values, candidate)])
    noise = _noise_between(logs, candidate, round_variance, prior, rule)
    change = Change(
        log=candidate.log_ms - math.fsum(logs) / n_runs,
        error=math.sqrt(noise.variance * (1 + 1 / n_runs)),
        df=noise.df,
        rule=rule,
        evidence=plural(n_runs, "run"),
    )
    is_same = change.is_within_target and not change.is_certain(rule.screen_alpha)
    if is_same and not (noise.is_assumed or is_disturbed):
        verdict, reason = Verdict.SAME, change.same_because
    else:
        verdict, reason = _by_history(change, n_runs, noise, is_disturbed=is_disturbed)
    judgement = change.judgement(verdict, reason, n_runs=n_runs, has_noise=not noise.is_assumed)
    if verdict is Verdict.SAME:
        return judgement
    return Suspicion(
        by_history=judgement,
        noise=noise,
        round_variance=round_variance,
        n_rounds=candidate.n_rounds,
    )


def _noise_between(
    logs: list[float], candidate: RunValue, round_variance: float, prior: Noise, rule: GateRule
) -> Noise:
    """Return the moderated noise, no less than what the rounds of a run alone make of it."""
    seen = prior.moderated(variance_of(logs), len(logs) - 1) if len(logs) > 1 else prior
    of_rounds = RunValue(0.0, round_variance, candidate.n_rounds).value_variance
    return replace(
        seen,
        variance=max(seen.variance, of_rounds, rule.min_noise_ratio**2),
        is_assumed=prior.is_assumed and len(logs) < rule.min_runs,
    )


def _by_history(
    change: Change, n_runs: int, noise: Noise, *, is_disturbed: bool
) -> tuple[Verdict, str]:
    """Return what the history alone says of a suspicion: rarely more than undecided."""
    rule, runs = change.rule, change.evidence
    is_changed = change.is_certain(rule.alpha)
    shown = f"{change.towards} by {runs}"
    if is_changed and not is_disturbed and n_runs >= rule.min_runs:
        return change.towards, f"{shown} of history alone (p {change.p:.1g})"
    if noise.is_assumed:
        which = "which does" if n_runs == 1 else "which do"
        ratio = round(math.expm1(change.log), 3) + 0.0  # no "-0.0%"
        lean = shown if is_changed else f"a change of {ratio:+.1%} by {runs}"
        reason = f"{lean}, {which} not say how much runs differ ({rule.min_runs} are needed)"
    elif is_disturbed and (is_changed or change.is_within_target):
        lean = shown if is_changed else change.same_because
        reason = f"{lean}, but throttling or contention was seen"
    elif is_changed:
        reason = f"probably {shown}, of which {rule.min_runs} are needed"
    else:
        reason = change.undecided_because(rule.alpha)
    return Verdict.UNDECIDED, reason


def _without_history(
    history: Sequence[Sequence[float]], candidate: RunValue, prior: Noise
) -> Suspicion:
    """Return a suspicion: without a baseline run both versions have to be measured now."""
    why = f"none of {len(history)} baseline runs has a value" if len(history) else "no baseline run"
    return Suspicion(
        by_history=Judgement(verdict=Verdict.UNDECIDED, reason=why),
        noise=prior,
        round_variance=candidate.round_variance,
        n_rounds=candidate.n_rounds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference of logs, candidate less baseline, with its standard error.

    `n_looks`: how many looks share the risk of the interval. `evidence`: what it rests on, such as
    "5 fresh pairs".
    """

    log: float
    error: float
    df: float
    rule: GateRule
    evidence: str
    n_looks: int = 1

    @property
    def towards(self) -> Verdict:
        """The direction of the change."""
        return Verdict.SLOWER if self.log > 0 else Verdict.FASTER

    @property
    def p(self) -> float:
        """The chance of a change as large in its direction where there is none."""
        return p_above(abs(self.log) / self.error, self.df)

    @property
    def room(self) -> float:
        """Half the width of the interval."""
        return t_quantile(self.df, (1 - self.rule.confidence) / 2 / self.n_looks) * self.error

    @property
    def is_within_target(self) -> bool:
        """Whether the interval rules out a change of the target in both directions.

        As a ratio, either way round: 1.03 and 1 / 1.03 for 3 %, so that swapped sides agree.
        """
        return abs(self.log) + self.room < math.log1p(self.rule.target_ratio)

    def is_certain(self, alpha: float) -> bool:
        """Whether it is larger than the least effect, and unlikely enough to be chance."""
        return self.p < alpha and self.is_large

    @property
    def is_large(self) -> bool:
        """Whether it is more than the least effect that is called slower or faster."""
        return abs(self.log) > math.log1p(self.rule.min_effect_ratio)

    @property
    def same_because(self) -> str:
        """Why this is the same, where it is within the target."""
        return f"a change of {self.rule.target_ratio:.1%} is ruled out by {self.evidence}"

    def undecided_because(self, alpha: float) -> str:
        """Return why this is neither slower, faster nor the same; `alpha`: what a change takes."""
        target = f"{self.rule.target_ratio:.1%}"
        if abs(self.log) <= self.room:
            return f"{self.evidence} neither rule out a change of {target} nor show one"
        if not self.is_large:
            least = f"{self.rule.min_effect_ratio:.1%}"
            return (
                f"{self.evidence} show no more than the {least} that {self.towards} takes, and do "
                f"not rule out a change of {target}"
            )
        return (
            f"probably {self.towards} by {self.evidence}: p {self.p:.1g}, and {self.towards} takes "
            f"less than {alpha:.1g}"
        )

    def judgement(
        self, verdict: Verdict, reason: str, *, n_pairs: int = 0, n_runs: int = 0, has_noise: bool
    ) -> Judgement:
        """Return the judgement of this change; no interval where its noise is only assumed."""
        return Judgement(
            verdict=verdict,
            reason=reason,
            change_ratio=math.exp(self.log),
            low_ratio=math.exp(self.log - self.room) if has_noise else None,
            high_ratio=math.exp(self.log + self.room) if has_noise else None,
            n_pairs=n_pairs,
            n_runs=n_runs,
        )
