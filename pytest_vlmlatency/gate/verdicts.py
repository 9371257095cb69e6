"""A case as it is reported: its phases' verdicts, budgets, shares and notes. Pure.

Budgets are bounds on medians in wall time, and need no baseline: a new case can exceed one. The
parts of a call add up to its total, and so do their shares of a change: both are means over the
same rounds, the fastest half by total, from which a run's value is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.comparability import named_differences
from pytest_vlmlatency.gate.comparisons import calm_ones, disturbances
from pytest_vlmlatency.records import (
    ANY_DEVICE,
    TOTAL,
    VISION_OUTSIDE,
    WALL,
    BudgetVerdict,
    CaseState,
    CaseVerdict,
    Judgement,
    Phase,
    PhaseVerdict,
    Rounds,
    Verdict,
)
from pytest_vlmlatency.stats import GateRule, RunValue, value_of
from pytest_vlmlatency.terms import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pytest_vlmlatency.gate.comparisons import CaseBaseline, Comparison
    from pytest_vlmlatency.records import Case, Environment


CPU_KIND = "cpu"


def budgets_of(case: Case, environment: Environment) -> tuple[BudgetVerdict, ...]:
    """Return a verdict for each budget that is there for the case's device.

    A device is named by its model ("NVIDIA H200"), by its kind ("cuda"), or "*" stands for any.
    """
    names = device_names(case.device, environment)
    return tuple(
        BudgetVerdict(
            quantity=quantity,
            device=name,
            measured_ms=_median_ms(case, quantity),
            budget_ms=budgets[name],
        )
        for quantity, budgets in case.terms.budgets_ms.items()
        for name in [next((name for name in names if name in budgets), None)]
        if name is not None
    )


def budgets_for_others(case: Case, environment: Environment) -> tuple[str, ...]:
    """Return in words which budgets say nothing of the case's device."""
    names = device_names(case.device, environment)
    return tuple(
        f"budget_ms of {quantity} is for {', '.join(budgets)}, and says nothing of {names[0]}"
        for quantity, budgets in case.terms.budgets_ms.items()
        if not set(names) & set(budgets)
    )


def device_names(device: str, environment: Environment) -> tuple[str, ...]:
    """Return what a budget may call a device: its model, its kind, or any."""
    kind = device.partition(":")[0]
    models = [_model_of(facts) for facts in environment.devices if facts.get("device") == device]
    if kind == CPU_KIND:
        models = [str(environment.machine.get("cpu"))]
    return (*dict.fromkeys([*models, kind, ANY_DEVICE]),)


def _model_of(facts: Mapping[str, object]) -> str:
    return str(facts.get("name"))


def _median_ms(case: Case, quantity: str) -> float | None:
    if quantity in QUANTITIES:
        is_absent = quantity in set(Phase) and not _occurs(case, quantity)
        return None if is_absent else case.median_of(f"{quantity}_ms")
    if not _occurs(case, quantity):
        return None
    return median(call.phase_time(quantity, WALL) for call in case.calls)


def _occurs(case: Case, name: str) -> bool:
    return any(span.name == name for call in case.calls for span in call.spans)


def value_ms(runs: Sequence[Sequence[float]], rule: GateRule) -> float | None:
    """Return the value of runs as the gate makes it, in ms; None where none has a value."""
    values = [value_of(rounds, rule) for rounds in runs]
    logs = [value.log_ms for value in values if isinstance(value, RunValue)]
    return math.exp(fmean(logs)) if logs else None


def shares_ms(before: Sequence[Rounds], after: Sequence[Rounds]) -> dict[str, float]:
    """Return the change of each part in ms, `other` included; {} where a side has no run."""
    if not before or not after:
        return {}
    old, new = _mean_parts(before), _mean_parts(after)
    names = dict.fromkeys((*new, *old))
    return {name: new.get(name, 0.0) - old.get(name, 0.0) for name in names}


def _mean_parts(runs: Sequence[Rounds]) -> dict[str, float]:
    parts = [_parts_ms(rounds.times_ms) for rounds in runs]
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: fmean(one.get(name, 0.0) for one in parts) for name in names}


def _parts_ms(times_ms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each part's mean over the fastest half of a run's rounds, by their total."""
    totals = times_ms[TOTAL]
    n_fastest = math.ceil(len(totals) * GateRule().fastest_share)
    fastest = sorted(range(len(totals)), key=lambda index: totals[index])[:n_fastest]
    return {
        name: fmean(values[index] for index in fastest)
        for name, values in times_ms.items()
        if name not in (TOTAL, VISION_OUTSIDE)
    }


Pairs = tuple[tuple[Rounds, Rounds], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCase:
    """What there is to say of one case: its rounds, what it is compared with, and what came out."""

    rounds: Rounds
    baseline: CaseBaseline
    comparisons: tuple[Comparison, ...]
    judgements: Mapping[str, Judgement]
    pairs: Pairs = ()
    budgets: tuple[BudgetVerdict, ...] = ()
    notes: tuple[str, ...] = field(default=())


def unjudged(
    rounds: Rounds,
    state: CaseState,
    reason: str,
    *,
    today: date,
    budgets: tuple[BudgetVerdict, ...] = (),
    notes: tuple[str, ...] = (),
) -> CaseVerdict:
    """Return a case without verdicts on its phases, with the reason; its budgets still count."""
    return CaseVerdict(
        case_id=rounds.case_id,
        case_name=rounds.case_name,
        test=rounds.test,
        device=rounds.device,
        measure=rounds.measure,
        state=state,
        reason=reason,
        budgets=budgets,
        notes=notes,
        terms=rounds.terms,
        is_quarantine_past=rounds.terms.is_past(today),
    )


def judged(case: JudgedCase, *, today: date) -> CaseVerdict:
    """Return a case with its verdicts; where nothing can be said of its total it is not applied."""
    total = case.judgements[TOTAL]
    notes = (*case.notes, *_notes(case))
    if total.change_ratio is None and total.verdict is Verdict.UNDECIDED:
        return unjudged(
            case.rounds,
            CaseState.NOT_APPLIED,
            total.reason,
            today=today,
            budgets=case.budgets,
            notes=notes,
        )
    before, after = _sides(case)
    had = _phases_before(case)
    return CaseVerdict(
        case_id=case.rounds.case_id,
        case_name=case.rounds.case_name,
        test=case.rounds.test,
        device=case.rounds.device,
        measure=case.rounds.measure,
        state=CaseState.JUDGED,
        phases=tuple(
            _phase(case, comparison)
            for comparison in case.comparisons
            if not had or comparison.phase in had
        ),
        budgets=case.budgets,
        shares_ms={} if total.change_ratio is None else shares_ms(before, after),
        notes=notes,
        terms=case.rounds.terms,
        is_quarantine_past=case.rounds.terms.is_past(today),
    )


def _phase(case: JudgedCase, comparison: Comparison) -> PhaseVerdict:
    """Return a phase's verdict, with the times that it rests on: of pairs where they decided."""
    phase, rule = comparison.phase, comparison.rule
    judgement = case.judgements[phase]
    before: Sequence[Sequence[float]] = comparison.history
    after: Sequence[Sequence[float]] = (comparison.candidate,)
    if judgement.n_pairs:
        both = [pair for pair in case.pairs if all(phase in side.times_ms for side in pair)]
        before = [old.times_ms[phase] for old, _ in both]
        after = [new.times_ms[phase] for _, new in both]
    candidate_ms = value_ms(after, rule)
    if candidate_ms is None:  # too few rounds: their mean is still what was seen
        candidate_ms = sum(comparison.candidate) / len(comparison.candidate)
    return PhaseVerdict(
        phase=phase,
        judgement=judgement,
        baseline_ms=value_ms(before, rule),
        candidate_ms=candidate_ms,
        target_ratio=rule.target_ratio,
    )


def _sides(case: JudgedCase) -> tuple[Sequence[Rounds], Sequence[Rounds]]:
    """Return the rounds that the total's verdict rests on: before, and after."""
    if case.judgements[TOTAL].n_pairs:
        return [old for old, _ in case.pairs], [new for _, new in case.pairs]
    return calm_ones(case.baseline.rounds), [case.rounds]


def _notes(case: JudgedCase) -> tuple[str, ...]:
    return (
        *([f"compared with {case.baseline.described}"] if case.baseline.described else []),
        *_differences(case),
        *_phase_notes(case),
        *_disturbance_notes(case),
    )


def _phases_before(case: JudgedCase) -> set[str]:
    before = [old for old, _ in case.pairs] or list(case.baseline.rounds)
    return {name for rounds in before for name in rounds.times_ms}


def _differences(case: JudgedCase) -> tuple[str, ...]:
    before = [old for old, _ in case.pairs] or list(case.baseline.rounds)
    return named_differences(before[-1], case.rounds) if before else ()


def _phase_notes(case: JudgedCase) -> tuple[str, ...]:
    """Name phases that only one side has: they are in the total's change, and in the shares."""
    had, has = _phases_before(case), set(case.rounds.times_ms)
    if not had:
        return ()
    return (
        *(
            f"{name}: not in the baseline, so "
            f"{'nothing' if name == VISION_OUTSIDE else 'only the total'} is judged for it"
            for name in case.rounds.times_ms
            if name not in had
        ),
        *(f"{name}: in the baseline, and no longer" for name in sorted(had - has)),
    )


def _disturbance_notes(case: JudgedCase) -> tuple[str, ...]:
    """Say what was disturbed, and what that does to the verdicts."""
    notes = [
        f"{found}: what this run alone shows decides nothing" for found in disturbances(case.rounds)
    ]
    runs = case.baseline.rounds
    n_disturbed = sum(bool(disturbances(rounds)) for rounds in runs)
    if n_disturbed:
        dealt = (
            "left out"
            if n_disturbed < len(runs)
            else "used, there being no others, and they decide nothing by themselves"
        )
        notes.append(f"{n_disturbed} of {len(runs)} baseline runs disturbed: {dealt}")
    processes = [side for pair in case.pairs for side in pair]
    n_noisy = sum(bool(disturbances(rounds)) for rounds in processes)
    if n_noisy:
        notes.append(f"{n_noisy} of {len(processes)} fresh processes disturbed, and counted")
    return tuple(notes)
