"""What is compared: each phase of each case, with its history and its rule. Pure.

`other` is no comparison of its own: it is what no phase accounts for, small and made of many
things, and what changes in it changes the total, which is judged. Its share of the total is shown.

Stored calls have had their warm-up: it ran before the first of them was timed. So the rule drops
no round of theirs (`n_warmup_rounds=0`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import CONTENDED_ABOVE, TOTAL, Phase
from pytest_vlmlatency.stats import GateRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.records import GateTerms, Rounds

Series = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseBaseline:
    """What one case is compared with: its rounds in comparable runs, newest last.

    `commit` is what a confirmation measures, None where none can be. `widest` are its rounds in
    all comparable clean runs, from which the noise between runs is pooled: a pin leaves few.
    `described` says what it is where it is another baseline than the report's, else "".
    """

    rounds: tuple[Rounds, ...]
    commit: str | None = None
    widest: tuple[Rounds, ...] = ()
    described: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One phase of one case: its times in each run of its history, newest last, and now."""

    case_id: str
    test: str | None
    phase: str
    history: tuple[Series, ...]
    candidate: Series
    commit: str | None
    rule: GateRule
    is_disturbed: bool
    widest: tuple[Series, ...] = ()


def comparisons_of(candidate: Rounds, baseline: CaseBaseline) -> tuple[Comparison, ...]:
    """Return the comparisons of one case, the total last; a rule that cannot be is UsageProblem.

    A phase that no run of the baseline has is left out, where there are runs.
    """
    history = calm_ones(baseline.rounds)
    is_disturbed = bool(disturbances(candidate)) or any(map(disturbances, history))
    return tuple(
        Comparison(
            case_id=candidate.case_id,
            test=candidate.test,
            phase=phase,
            history=_series(history, phase),
            candidate=candidate.times_ms[phase],
            commit=baseline.commit,
            rule=rule_for(candidate.terms, phase),
            is_disturbed=is_disturbed,
            widest=_series(calm_ones(baseline.widest or baseline.rounds), phase),
        )
        for phase in judged_phases(candidate)
        if not history or _series(history, phase)
    )


def judged_phases(rounds: Rounds) -> tuple[str, ...]:
    """Return the phases of a case that are judged, the total last."""
    parts = [name for name in rounds.times_ms if name not in (Phase.OTHER, TOTAL)]
    return (*parts, TOTAL)


def rule_for(terms: GateTerms, phase: str) -> GateRule:
    """Return the rule of a phase, as its test asked for it; UsageProblem if it cannot be."""
    return _rule(terms.target_ratio(phase), terms.alpha, terms.min_effect_ratio)


@lru_cache
def _rule(
    target_ratio: float | None, alpha: float | None, min_effect_ratio: float | None
) -> GateRule:
    default = GateRule()
    rule = GateRule.for_target(
        target_ratio or default.target_ratio, alpha=default.alpha if alpha is None else alpha
    )
    if min_effect_ratio is not None:
        rule = replace(rule, min_effect_ratio=min_effect_ratio)
    return replace(rule, n_warmup_rounds=0)


def calm_ones(rounds: Sequence[Rounds]) -> tuple[Rounds, ...]:
    """Return the rounds that nothing disturbed; all of them if that leaves none."""
    return tuple(one for one in rounds if not disturbances(one)) or tuple(rounds)


def disturbances(rounds: Rounds) -> tuple[str, ...]:
    """Return in words what disturbed a case while it was measured; () if nothing is known.

    Contention is what the table marks as such.
    """
    found = []
    if rounds.contended_ratio is not None and rounds.contended_ratio > CONTENDED_ABOVE:
        found.append(
            f"contended: {rounds.contended_ratio:.0%} of the time waiting for a core, more than "
            f"{CONTENDED_ABOVE:.0%}"
        )
    if rounds.throttle_reasons:
        found.append(f"throttled by {', '.join(rounds.throttle_reasons)}")
    if rounds.n_other_processes:
        others = (
            "1 other process"
            if rounds.n_other_processes == 1
            else (f"{rounds.n_other_processes} other processes")
        )
        found.append(f"{others} on the device")
    return tuple(found)


def _series(runs: Sequence[Rounds], phase: str) -> tuple[Series, ...]:
    return tuple(rounds.times_ms[phase] for rounds in runs if phase in rounds.times_ms)
