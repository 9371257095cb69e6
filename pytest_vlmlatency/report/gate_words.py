"""A gate's verdicts in words: what every form of the report says, terminal or not.

Pure: records in, text out. Owns the wording and its digits; the forms own their layout.

Where each case of a gate's report stands: the groups that every form shows, what fails first.

Pure. Owns the groups, their headings, and what is said of the whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.printing import plural
from pytest_vlmlatency.records import CPU, CaseState, GateMode, GateStatus, Verdict
from pytest_vlmlatency.report.terminal import notes_about

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.records import (
        BudgetVerdict,
        CaseVerdict,
        Confirmation,
        GateReport,
        Judgement,
        PhaseVerdict,
    )


PERCENT = 100
MOST_DECIMALS = 4
S_PER_MIN = 60
ANYWHERE = "*"


def change_text(judgement: Judgement) -> str:
    """Return an effect with its interval and what it rests on: `+3.1 % [2.0, 4.2], 5 pairs`."""
    parts = (effect_text(judgement), evidence_text(judgement))
    return ", ".join(part for part in parts if part)


def effect_text(judgement: Judgement) -> str:
    """Return an effect with its interval: `+3.1 % [2.0, 4.2]`; "" where nothing can be said."""
    if judgement.change_ratio is None:
        return ""
    return interval_text(judgement.change_ratio, judgement.low_ratio, judgement.high_ratio)


def interval_text(ratio: float, low_ratio: float | None, high_ratio: float | None) -> str:
    """Return a ratio as a change in percent, with its interval where there is one."""
    effect = f"{_percent(ratio):+.1f} %"
    if low_ratio is None or high_ratio is None:
        return effect
    return f"{effect} [{_percent(low_ratio):.1f}, {_percent(high_ratio):.1f}]"


def evidence_text(judgement: Judgement) -> str:
    """Return what a verdict rests on: fresh pairs of processes where there were any, else runs."""
    if judgement.n_pairs:
        return plural(judgement.n_pairs, "pair")
    return plural(judgement.n_runs, "run") if judgement.n_runs else ""


def probably_text(phase: PhaseVerdict) -> str:
    """Return what an undecided phase probably is: `vision probably slower: 5.0 → 9.9 ms, 1 run`.

    "" where the numbers don't tell.
    """
    if phase.probably is None:
        return ""
    before, now = phase.baseline_ms, phase.candidate_ms
    n_decimals = max(1, _decimals(now if before is None else min(before, now)))
    times = "" if before is None else f"{before:.{n_decimals}f} → "
    what = f"{phase.phase} probably {phase.probably}: {times}{now:.{n_decimals}f} ms"
    return f"{what}, {evidence_text(phase.judgement)}"


def probably_slower_lines(case: CaseVerdict) -> tuple[str, ...]:
    """Return what is undecided in a case and probably slower, a line each."""
    return tuple(map(probably_text, case.phases_that_are_probably(Verdict.SLOWER)))


def shares_text(case: CaseVerdict) -> str:
    """Return which phase did it: `total +41 ms: vision +39, prefill +1, decode +1`.

    The largest first; a part whose share rounds to nothing is left out.
    """
    if not case.shares_ms:
        return ""
    total_ms = sum(case.shares_ms.values())
    n_decimals = _decimals(max(map(abs, (total_ms, *case.shares_ms.values()))))
    rounded = {name: round(ms, n_decimals) + 0.0 for name, ms in case.shares_ms.items()}
    ordered = sorted(rounded.items(), key=lambda share: -abs(share[1]))
    shares = ", ".join(f"{name} {ms:+.{n_decimals}f}" for name, ms in ordered if ms)
    told = f"total {round(total_ms, n_decimals) + 0.0:+.{n_decimals}f} ms"
    return f"{told}: {shares}" if shares else told


def budget_text(budget: BudgetVerdict) -> str:
    """Return one bound and whether it is kept: `ttft 260.3 ms, over its budget of 250 ms`."""
    where = "" if budget.device == ANYWHERE else f" on {budget.device}"
    bound = f"its budget of {budget.budget_ms:g} ms{where}"
    if budget.measured_ms is None:
        return f"{budget.quantity} is undefined here, so {bound} is not kept"
    side = "over" if budget.is_over else "within"
    n_decimals = max(1, _decimals(budget.measured_ms))
    return f"{budget.quantity} {budget.measured_ms:.{n_decimals}f} ms, {side} {bound}"


def quarantine_text(case: CaseVerdict) -> str:
    """Return that, why and until when a case is quarantined; "" if it is not."""
    if case.terms.mode is not GateMode.REPORT:
        return ""
    why, until = case.terms.why, case.terms.until
    if case.is_quarantine_past:
        return (
            f"Its quarantine ended on {until}: {why}. It still does not fail: let it fail "
            f"again, or give it a new date"
        )
    return f"Quarantined until {until}, so it does not fail: {why}"


def failing_phases(case: CaseVerdict) -> tuple[str, ...]:
    """Return the names of what fails in a case: phases first, then quantities over a budget."""
    slower = [phase.phase for phase in case.phases_that_are(Verdict.SLOWER)]
    over = [budget.quantity for budget in case.budgets if budget.is_over]
    return tuple(dict.fromkeys([*slower, *over]))


def failure_lines(case: CaseVerdict) -> tuple[str, ...]:
    """Return what fails in a case, a sentence each: phases first, then budgets."""
    slower = (
        f"{phase.phase} is slower: {change_text(phase.judgement)}"
        for phase in case.phases_that_are(Verdict.SLOWER)
    )
    over = (budget_text(budget) for budget in case.budgets if budget.is_over)
    return (*slower, *over)


def confirmation_text(confirmation: Confirmation) -> str:
    """Return what was measured anew, and what cut it short."""
    minutes, seconds = divmod(round(confirmation.time_s), S_PER_MIN)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    pairs = plural(confirmation.n_pairs, "pair")
    what = f"Confirmed with {pairs}" if confirmation.n_pairs else "Measured no pair"
    sides = f"{confirmation.baseline} against {confirmation.candidate}"
    measured = f"{what} of fresh processes in {time}: {sides}"
    cut = confirmation.cut_short_because
    return f"{measured}; cut short: {cut}." if cut else f"{measured}."


def measures_text(cases: Iterable[CaseVerdict]) -> str:
    """Return what kind of time the judged cases were compared by; "" if none was judged."""
    measures = {case.measure for case in cases if case.phases}
    if not measures:
        return ""
    cpu, wall = CPU in measures, measures != {CPU}
    kind = "CPU or wall" if cpu and wall else "CPU" if cpu else "Wall"
    return (
        f"{kind} time in ms, as the gate values a run; the change with its interval, and what it "
        f"rests on."
    )


def remarks_on(report: GateReport, *, has_times: bool) -> list[str]:
    """Return what stands below the verdicts: what they rest on, and what else to know of them.

    `has_times`: there is a table above whose times need a word.
    """
    return [
        *([f"Baseline: {report.baseline}."] if report.baseline else []),
        *map(confirmation_text, report.confirmations),
        *_failures_of(report),
        *([text] if has_times and (text := measures_text(report.cases)) else []),
        *notes_about((case.case_name, case.notes) for case in named_apart(report.cases)),
        *report.remarks,
        *([text] if (text := accept_text(report)) else []),
    ]


def _failures_of(report: GateReport) -> list[str]:
    """Return what could not be measured, without what stands beside the case as its reason."""
    beside = [
        (f"{case.test}: ", reason)
        for case in report.cases
        if (reason := case.reason.partition(": ")[2])
    ]
    return [
        text
        for one in report.confirmations
        for text in one.failures
        if not any(text.endswith(f"{test}{reason}") for test, reason in beside)
    ]


def accept_text(report: GateReport) -> str:
    """Return how a change that is slower on purpose is accepted; "" where none fails, or can be."""
    is_slower = any(case.fails and case.phases_that_are(Verdict.SLOWER) for case in report.cases)
    if not is_slower or not report.accept_as:
        return ""
    return (
        f"If this is intended, accept the new level and commit the file that this writes: "
        f'vlmlatency accept {report.accept_as} --why "the reason"'
    )


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: `vision, prefill and decode`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _percent(ratio: float) -> float:
    return round((ratio - 1) * PERCENT, 1) + 0.0  # no "-0.0"


def _decimals(size: float) -> int:
    """Return the fewest decimals that show two digits of a time in ms."""
    n_decimals = 0
    while n_decimals < MOST_DECIMALS and 0 < abs(size) * 10**n_decimals < 10:
        n_decimals += 1
    return n_decimals


class Standing(StrEnum):
    """Where a reader finds a case: the groups of a report, what fails first."""

    FAILS = "fails"
    NOT_APPLIED = "not applied"
    UNDECIDED = "undecided"
    QUARANTINED = "quarantined"
    FASTER = "faster"
    NEW = "new"
    NOT_JUDGED = "not judged"
    SAME = "same"


_HEADINGS = {
    Standing.FAILS: "slower, or over a budget: this fails the gate",
    Standing.NOT_APPLIED: "not applied: this fails the gate",
    Standing.QUARANTINED: "quarantined: shown, and not failing",
}
_OUTCOMES = {GateStatus.PASSED: "passed", GateStatus.INTERRUPTED: "INTERRUPTED"}
_BY_STATE = {
    CaseState.NOT_APPLIED: Standing.NOT_APPLIED,
    CaseState.NEW: Standing.NEW,
    CaseState.NOT_JUDGED: Standing.NOT_JUDGED,
}


def standing_of(case: CaseVerdict) -> Standing:
    """Return the group of a case; a quarantined one that is all the same is like any other."""
    is_undecided = bool(case.phases_that_are(Verdict.UNDECIDED))
    is_unjudged = case.state is CaseState.NOT_APPLIED
    if case.fails:
        return Standing.FAILS
    if case.terms.mode is GateMode.REPORT and (
        case.is_slower or is_undecided or is_unjudged or case.is_quarantine_past
    ):
        return Standing.QUARANTINED
    if case.state in _BY_STATE:
        return _BY_STATE[case.state]
    if is_undecided:
        return Standing.UNDECIDED
    return Standing.FASTER if case.phases_that_are(Verdict.FASTER) else Standing.SAME


def standings(report: GateReport) -> dict[Standing, list[CaseVerdict]]:
    """Return the cases of each group that has some, in the order in which they are read."""
    groups: dict[Standing, list[CaseVerdict]] = {standing: [] for standing in Standing}
    for case in named_apart(report.cases):
        groups[standing_of(case)].append(case)
    return {standing: cases for standing, cases in groups.items() if cases}


def named_apart(cases: Sequence[CaseVerdict]) -> list[CaseVerdict]:
    """Return the cases of one report with names that tell them apart."""
    names = told_apart((case.case_id, case.case_name) for case in cases)
    return [replace(case, case_name=name) for case, name in zip(cases, names, strict=True)]


def heading_of(standing: Standing, *, is_strict: bool) -> str:
    """Return the heading of a group, with what it means for the run."""
    if standing is Standing.UNDECIDED:
        fails = "this fails the gate" if is_strict else "shown, and not failing unless strict"
        return f"undecided: {fails}"
    return _HEADINGS.get(standing, str(standing))


def outcome_of(case: CaseVerdict) -> str:
    """Return a case's group in a word or two: a failing one is slower, or only over a budget."""
    standing = standing_of(case)
    if standing is not Standing.FAILS:
        return str(standing)
    return "slower" if case.phases_that_are(Verdict.SLOWER) else "over budget"


def title_of(report: GateReport) -> str:
    """Return what a reader must know if he reads one line."""
    ordered = (case for cases in standings(report).values() for case in cases)
    counts = Counter(outcome_of(case) for case in ordered)
    n_probably = sum(bool(case.phases_that_are_probably(Verdict.SLOWER)) for case in report.cases)
    told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    told += f"; {n_probably} probably slower" if n_probably else ""
    outcome = _OUTCOMES.get(report.status, "FAILED")
    return f"vlm gate {outcome}: {told or 'nothing judged'}"


def status_text(report: GateReport) -> str:
    """Return how the gate ends the run, and what that means."""
    status = report.status
    match status:
        case GateStatus.PASSED:
            return f"The gate passed{_until_stopped(report)}."
        case GateStatus.SLOWER:
            why = "slower, or over a budget"
        case GateStatus.UNDECIDED:
            why = "undecided, where only a decision passes (strict)"
        case GateStatus.INTERRUPTED:
            return (
                f"Interrupted by {report.interrupted_by}: the pairs measured by then are judged, "
                f"and the run ends with exit status {status.value}."
            )
        case GateStatus.NOT_APPLIED:
            why = "it was asked for and could not be applied"
        case _:
            assert_never(status)
    if report.stopped_because is not None:
        return f"The gate failed{_until_stopped(report)}: {why}."
    return f"The gate failed with exit status {status.value}: {why}."


def _until_stopped(report: GateReport) -> str:
    if report.stopped_because is None:
        return ""
    return (
        f" what was measured before the run was stopped ({report.stopped_because}), which ends "
        f"with pytest's own exit status"
    )
