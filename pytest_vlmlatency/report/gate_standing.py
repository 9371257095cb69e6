"""Where each case of a gate's report stands: the groups that every form shows, what fails first.

Pure. Owns the groups, their headings, and what is said of the whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.records import CaseState, GateMode, GateStatus, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.records import CaseVerdict, GateReport


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
