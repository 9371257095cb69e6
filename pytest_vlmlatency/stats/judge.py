"""judge: a screen, then looks at fresh pairs until one decides. Pure but for what `pairs` does.

Looks at fresh pairs: the moderated t of paired differences, a few times, until decided. Pure.

Each pair holds two fresh processes, a baseline and a candidate, measured in the same job in ABBA
order: what both share (the node, the hour, a drift) leaves their difference, and what is each
process's own (memory layout, clocks) is drawn anew in each pair, so it averages out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import Judgement, Verdict
from pytest_vlmlatency.stats.noise import (
    FASTEST_HALF_VARIANCE,
    Noise,
    RunValue,
    f_quantile,
    value_of,
)
from pytest_vlmlatency.stats.rule import GateRule
from pytest_vlmlatency.stats.screen import Change, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.stats.screen import Suspicion


def judge(
    history: Sequence[Sequence[float]],
    candidate: Sequence[float],
    *,
    pairs: Callable[[int], Sequence[Pair]] | None = None,
    noise: Noise | None = None,
    rule: GateRule | None = None,
    is_disturbed: bool = False,
) -> Judgement:
    """Judge whether a candidate's run is slower than its history, confirmed by fresh pairs.

    `history`: runs, newest last, each its round times in ms in order, warm-up included (the rule
    drops it); `candidate` likewise. `pairs(k)` returns the first k fresh (baseline, candidate)
    pairs, so that a larger k extends a smaller one, or fewer where no more can be had. `noise`:
    `pool_noise` of all histories of this pytest run. `is_disturbed`: throttling or contention was
    seen, so the history alone shows no change.

    Without a history, pairs alone decide. It is `screen`, then `look` at each of `rule.looks`.
    """
    rule = rule or GateRule()
    seen = screen(history, candidate, noise=noise, rule=rule, is_disturbed=is_disturbed)
    if isinstance(seen, Judgement):
        return seen
    if pairs is None:
        return seen.unconfirmed
    for n_pairs in rule.looks:
        measured = tuple(pairs(n_pairs))[:n_pairs]
        is_last = len(measured) < n_pairs or n_pairs == rule.looks[-1]
        judgement = look(seen, measured, rule=rule, is_last=is_last)
        if judgement is not None:
            return judgement
    raise AssertionError("the last look always comes to a judgement")


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
    alpha = rule.look_alpha(len(pairs))
    if change.is_certain(alpha):
        verdict, reason = change.towards, f"{change.towards} by fresh pairs (p {change.p:.1g})"
    elif change.is_within_target:
        verdict, reason = Verdict.SAME, change.same_because
    elif is_last:
        verdict, reason = Verdict.UNDECIDED, change.undecided_because(alpha)
    else:
        return None
    return change.judgement(
        verdict,
        reason,
        n_pairs=len(usable),
        n_runs=suspicion.by_history.n_runs,
        has_noise=True,
    )


def _change(
    suspicion: Suspicion, pairs: Sequence[tuple[RunValue, RunValue]], rule: GateRule
) -> Change:
    """Return the mean difference, with the noise that the pairs show.

    The differences alone tell of it where both sides of a pair share some noise (an hour, a node):
    then the sums of a pair spread more than the differences. Where they do not, by an F test, both
    tell of the same noise and count together: half as many pairs show as much.
    """
    foreseen = _foreseen(suspicion, pairs, rule)
    differences, sums = (
        _clipped_mean(
            [after.log_ms + sign * before.log_ms for before, after in pairs], foreseen, rule
        )
        for sign in (-1, 1)
    )
    limit = f_quantile(len(pairs) - 1, rule.shared_risk)
    is_shared = sums.noise.variance > limit * differences.noise.variance
    shown = (
        differences.noise
        if is_shared
        else differences.noise.moderated(sums.noise.variance, sums.noise.df)
    )
    noise = _with_foreseen(shown, foreseen, suspicion)
    return Change(
        log=differences.log,
        error=math.sqrt(noise.variance / len(pairs)),
        df=noise.df,
        rule=rule,
        evidence=f"{len(pairs)} fresh pairs",
        n_looks=len(rule.looks),
    )


def _with_foreseen(shown: Noise, foreseen: _Foreseen, suspicion: Suspicion) -> Noise:
    """Return the noise that pairs show, moderated by the foreseen one where that is to be believed.

    It is not where it was assumed, or where the pairs show more: then they speak for themselves.
    """
    if suspicion.noise.is_assumed:
        return replace(shown, variance=max(shown.variance, foreseen.least))
    if shown.variance > foreseen.noise.variance:
        return shown
    return foreseen.noise.moderated(shown.variance, shown.df)


@dataclass(frozen=True, slots=True)
class _ClippedMean:
    """A robust mean of differences; `noise`: n times the variance of the mean itself."""

    log: float
    noise: Noise


def _clipped_mean(differences: list[float], foreseen: _Foreseen, rule: GateRule) -> _ClippedMean:
    """Return Huber's estimate of the mean: differences beyond the clip count as if at it.

    A process that was throttled or had a neighbour would otherwise decide for all others. The
    scale is the median absolute deviation, moderated as the noise is. Huber, "Robust estimation of
    a location parameter", 1964; the variance is sum psi^2 / (n - 1) over (mean psi')^2. Its degrees
    of freedom are of what is inside the clip, as for a trimmed mean: Tukey and McLaughlin, "Less
    vulnerable confidence and significance procedures for location", Sankhya A 25 (1963).
    """
    n = len(differences)
    middle = median(differences)
    deviation = MAD_TO_SIGMA * median([abs(value - middle) for value in differences])
    clip = rule.clip_sigmas * math.sqrt(foreseen.noise.moderated(deviation**2, n - 1).variance)
    mean = middle
    for _ in range(100):
        residuals = [value - mean for value in differences]
        psi = [max(-clip, min(clip, residual)) for residual in residuals]
        n_inside = max(1, sum(abs(residual) < clip for residual in residuals))
        step = math.fsum(psi) / n_inside
        mean += step
        if abs(step) < 1e-12:
            break
    variance = math.fsum(value**2 for value in psi) / (n - 1) * (n / n_inside) ** 2
    return _ClippedMean(mean, Noise(variance=variance, df=max(1, n_inside - 1)))


@dataclass(frozen=True, slots=True)
class _Foreseen:
    """The noise of one pair's difference, as the screen's lets foresee, and the least it can be."""

    noise: Noise
    least: float


def _foreseen(
    suspicion: Suspicion, pairs: Sequence[tuple[RunValue, RunValue]], rule: GateRule
) -> _Foreseen:
    """Return the noise of one pair's difference, as foreseen from the screen's.

    Both processes vary as runs do, and more where they have fewer rounds. It is worth few degrees
    of freedom: processes that follow each other may be noisier than those of other days, or calmer.
    """
    n_rounds = fmean([value.n_rounds for pair in pairs for value in pair])
    of_round = FASTEST_HALF_VARIANCE * suspicion.round_variance
    fewer = of_round * (1 / n_rounds - 1 / suspicion.n_rounds)
    least = max(of_round / n_rounds, rule.min_noise_ratio**2)
    one_run = max(suspicion.noise.variance + fewer, least)
    return _Foreseen(Noise(variance=2 * one_run, df=rule.pairs_prior_df), 2 * least)


def _too_few(suspicion: Suspicion, n_usable: int, n_pairs: int, rule: GateRule) -> Judgement:
    """Return what the history alone says: the pairs are too few to be looked at."""
    if not n_pairs:
        return suspicion.unconfirmed
    of = f" of {n_pairs}" if n_pairs > n_usable else ""
    pairs = f"fresh pair{'' if (n_pairs if of else n_usable) == 1 else 's'}"
    has = ("has" if n_usable == 1 else "have") if of else "was" if n_usable == 1 else "were"
    what = "a value" if of else "measured"
    return suspicion.without_pairs(
        f"{n_usable}{of} {pairs} {has} {what}, of the {rule.looks[0]} that a first look needs"
    )
