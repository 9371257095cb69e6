"""Looks at fresh pairs: the moderated t of paired differences, a few times, until decided. Pure.

Each pair holds two fresh processes, a baseline and a candidate, measured in the same job in ABBA
order: what both share (the node, the hour, a drift) leaves their difference, and what is each
process's own (memory layout, clocks) is drawn anew in each pair, so it averages out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.noise import Noise, f_quantile, p_above, t_quantile
from pytest_vlmlatency.gate.rule import GateRule
from pytest_vlmlatency.gate.values import FASTEST_HALF_VARIANCE, RunValue, value_of
from pytest_vlmlatency.records import Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.gate.screen import Suspicion

Pair = tuple["Sequence[float]", "Sequence[float]"]
"""The rounds of the baseline's process, then of the candidate's, in ms."""


MAD_TO_SIGMA = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""


def look(
    suspicion: Suspicion,
    pairs: Sequence[Pair],
    *,
    rule: GateRule | None = None,
    is_last: bool = False,
) -> Judgement | None:
    """Judge by the pairs so far; None: measure on, up to the rule's next look.

    Call it at each of `rule.looks` and nowhere between, with the same pairs and the new ones.
    `is_last`: no more can be had, after the rule's last look or before it (a time limit); then
    what is not decided is undecided. A pair in which a run has no value is left out.
    """
    rule = rule or GateRule()
    values = [(value_of(before, rule), value_of(after, rule)) for before, after in pairs]
    usable = [
        (before, after)
        for before, after in values
        if isinstance(before, RunValue) and isinstance(after, RunValue)
    ]
    if len(usable) < rule.looks[0]:
        return _too_few(suspicion, len(usable), len(pairs), rule) if is_last else None
    change = _change(suspicion, usable, rule)
    verdict, reason = _decided(change, suspicion, rule, alpha=rule.look_alpha(len(pairs)))
    if verdict is Verdict.UNDECIDED and not is_last:
        return None
    room = t_quantile(change.df, (1 - rule.confidence) / 2 / len(rule.looks)) * change.error
    return Judgement(
        verdict=verdict,
        reason=reason,
        change_ratio=math.exp(change.log),
        low_ratio=math.exp(change.log - room),
        high_ratio=math.exp(change.log + room),
        n_pairs=len(usable),
        n_runs=suspicion.unconfirmed.n_runs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """The mean difference of the pairs, in logs, with its standard error."""

    log: float
    error: float
    df: float
    n_pairs: int

    def p_unless(self, change: float) -> float:
        """Return the chance of a mean this far above `change` where that is the true one."""
        return p_above((self.log - change) / self.error, self.df)


def _change(
    suspicion: Suspicion, pairs: Sequence[tuple[RunValue, RunValue]], rule: GateRule
) -> _Change:
    """Return the mean difference, with the noise that the pairs show.

    The differences alone tell of it where both sides of a pair share some noise (an hour, a node):
    then the sums of a pair spread more than the differences. Where they do not, by an F test, both
    tell of the same noise and count together: half as many pairs show as much.
    """
    df = len(pairs) - 1
    foreseen = _foreseen(suspicion, pairs, rule)
    differences, sums = (
        _clipped_mean(
            [after.log_ms + sign * before.log_ms for before, after in pairs], foreseen, rule
        )
        for sign in (-1, 1)
    )
    if sums.variance > f_quantile(df, rule.shared_risk) * differences.variance:
        noise = foreseen.moderated(differences.variance, df)
    else:
        noise = foreseen.moderated((differences.variance + sums.variance) / 2, 2 * df)
    return _Change(
        log=differences.log,
        error=math.sqrt(noise.variance / len(pairs)),
        df=noise.df,
        n_pairs=len(pairs),
    )


@dataclass(frozen=True, slots=True)
class _ClippedMean:
    """A robust mean of differences; `variance`: n times that of the mean itself."""

    log: float
    variance: float


def _clipped_mean(differences: list[float], foreseen: Noise, rule: GateRule) -> _ClippedMean:
    """Return Huber's estimate of the mean: differences beyond the clip count as if at it.

    A process that was throttled or had a neighbour would otherwise decide for all others. The
    scale is the median absolute deviation, moderated as the noise is. Huber, "Robust estimation of
    a location parameter", 1964; the variance is sum psi^2 / (n - 1) over (mean psi')^2.
    """
    n = len(differences)
    middle = median(differences)
    deviation = MAD_TO_SIGMA * median([abs(value - middle) for value in differences])
    clip = rule.clip_sigmas * math.sqrt(foreseen.moderated(deviation**2, n - 1).variance)
    mean = middle
    for _ in range(100):
        residuals = [value - mean for value in differences]
        psi = [max(-clip, min(clip, residual)) for residual in residuals]
        n_inside = sum(abs(residual) < clip for residual in residuals)
        step = math.fsum(psi) / max(n_inside, 1)
        mean += step
        if abs(step) < 1e-12:
            break
    variance = math.fsum(value**2 for value in psi) / (n - 1) * (n / n_inside) ** 2
    return _ClippedMean(mean, variance)


def _foreseen(
    suspicion: Suspicion, pairs: Sequence[tuple[RunValue, RunValue]], rule: GateRule
) -> Noise:
    """Return the noise of one pair's difference, as foreseen from the screen's.

    Both processes vary as runs do, and more where they have fewer rounds. It is worth few degrees
    of freedom: processes that follow each other may be noisier than those of other days, or calmer.
    """
    n_rounds = fmean([value.n_rounds for pair in pairs for value in pair])
    of_round = FASTEST_HALF_VARIANCE * suspicion.round_variance
    fewer = of_round * (1 / n_rounds - 1 / suspicion.n_rounds)
    one_run = max(suspicion.noise.variance + fewer, of_round / n_rounds, rule.min_noise_ratio**2)
    return Noise(variance=2 * one_run, df=rule.pairs_prior_df)


def _decided(
    change: _Change, suspicion: Suspicion, rule: GateRule, *, alpha: float
) -> tuple[Verdict, str]:
    """Return what the pairs show, and why."""
    least, target = math.log1p(rule.min_effect_ratio), math.log1p(rule.target_ratio)
    p_slower, p_faster = change.p_unless(0.0), 1 - change.p_unless(0.0)
    if p_slower < alpha and change.log > least:
        return Verdict.SLOWER, f"slower by fresh pairs (p {p_slower:.1g})"
    if p_faster < alpha and change.log < -least:
        return Verdict.FASTER, f"faster by fresh pairs (p {p_faster:.1g})"
    too_much = rule.same_share * target
    is_not_slower = 1 - change.p_unless(too_much) < rule.same_risk
    is_not_faster = change.p_unless(-too_much) < rule.same_risk
    if (is_not_slower or not suspicion.may_be_slower) and (
        is_not_faster or not suspicion.may_be_faster
    ):
        return (
            Verdict.SAME,
            f"fresh pairs rule out a change of {rule.same_share * rule.target_ratio:.1%}",
        )
    return (
        Verdict.UNDECIDED,
        f"{change.n_pairs} fresh pairs neither rule out a change of "
        f"{rule.same_share * rule.target_ratio:.1%} nor show one",
    )


def _too_few(suspicion: Suspicion, n_usable: int, n_pairs: int, rule: GateRule) -> Judgement:
    """Return what the history alone says: the pairs are too few to be looked at."""
    unconfirmed = suspicion.unconfirmed
    without_value = f", {n_pairs - n_usable} more had no value" if n_pairs > n_usable else ""
    return replace(
        unconfirmed,
        reason=f"{unconfirmed.reason} ({n_usable} fresh pairs of the {rule.looks[0]} that a first "
        f"look needs{without_value})",
    )
