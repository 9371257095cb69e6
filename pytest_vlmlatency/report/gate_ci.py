"""A gate's report as GitHub's annotations: a line in the log for each test, shown at the test.

Pure. Owns the words, their order and their escaping; who has found out where a test stands, and
that GitHub is listening, passes it in.

A gate's report as test cases for JUnit XML: one for each phase that fails, named by it.

Pure. Passing phases are no test cases, so that a gate does not change how many tests there are;
raw samples stay out. pytest's own writer makes the XML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import printable, printable_lines
from pytest_vlmlatency.records import GateStatus, Verdict
from pytest_vlmlatency.report.gate_words import (
    Standing,
    budget_text,
    change_text,
    failing_phases,
    failure_lines,
    listed,
    named_apart,
    outcome_of,
    probably_slower_lines,
    probably_text,
    quarantine_text,
    shares_text,
    standing_of,
    standings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.records import CaseVerdict, GateReport, PhaseVerdict


MOST_SHOWN = 10
"""GitHub shows ten errors and ten warnings of a step, and drops the others without a word."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """Where a test begins: a file as the reader names it, and its line from 1 on, if known."""

    file: str
    line: int | None


def annotation_lines(report: GateReport, sources: Mapping[str, SourceLine]) -> tuple[str, ...]:
    """Return a line for each test that fails the gate, is probably slower, or past its quarantine.

    `sources` are the places of tests by their ids; a test without one is named in the text only.
    """
    errors = list(_errors(report, sources))
    warnings = [
        _line("warning", case, sources, title=f"{case.case_name}: past its quarantine", text=text)
        for case in named_apart(report.cases)
        if case.is_quarantine_past and (text := quarantine_text(case))
    ]
    probable = [
        _line(
            "warning",
            case,
            sources,
            title=f"{case.case_name} is probably slower: "
            f"{listed([phase.phase for phase in case.phases_that_are_probably(Verdict.SLOWER)])}",
            text="\n".join(told),
        )
        for case in report.cases
        if (told := probably_slower_lines(case))
    ]
    return (*_shown("error", errors), *_shown("warning", [*probable, *warnings]))


def _errors(report: GateReport, sources: Mapping[str, SourceLine]) -> Iterator[str]:
    is_undecided_failing = report.status is GateStatus.UNDECIDED
    for standing, cases in standings(report).items():
        for case in cases:
            if standing is Standing.FAILS:
                phases = listed(failing_phases(case))
                title = f"{case.case_name} is {outcome_of(case)}: {phases}"
                told = [text for text in (*failure_lines(case), shares_text(case)) if text]
                yield _line("error", case, sources, title=title, text="\n".join(told))
            if standing is Standing.NOT_APPLIED:
                title = f"{case.case_name}: the gate was not applied"
                yield _line("error", case, sources, title=title, text=case.reason)
            if standing is Standing.UNDECIDED and is_undecided_failing:
                title = f"{case.case_name} is undecided"
                yield _line("error", case, sources, title=title, text=_what_is_undecided(case))
    for reason in report.not_applied_because:
        yield f"::error title={_property('vlm gate: not applied')}::{_data(reason)}"


def _what_is_undecided(case: CaseVerdict) -> str:
    phases = case.phases_that_are(Verdict.UNDECIDED)
    told = (
        (f"{phase.phase}: {change_text(phase.judgement)}", probably_text(phase)) for phase in phases
    )
    return "\n".join(text for texts in told for text in texts if text)


def _shown(kind: str, lines: Sequence[str]) -> tuple[str, ...]:
    """Return as many lines as GitHub shows, the last one saying how many more there are."""
    if len(lines) <= MOST_SHOWN:
        return tuple(lines)
    n_more = len(lines) - MOST_SHOWN + 1
    text = f"{n_more} more; the log and the summary have all of them."
    return (*lines[: MOST_SHOWN - 1], f"::{kind} title={_property('vlm gate')}::{_data(text)}")


def _line(
    kind: str,
    case: CaseVerdict,
    sources: Mapping[str, SourceLine],
    *,
    title: str,
    text: str,
) -> str:
    source = sources.get(case.test or "")
    properties = {
        "file": source and source.file,
        "line": source and source.line,
        "title": title,
    }
    told = [f"{key}={_property(str(value))}" for key, value in properties.items() if value]
    return f"::{kind} {','.join(told)}::{_data(text)}"


def _data(text: str) -> str:
    """Escape as GitHub's own toolkit does: a line of the log is one command."""
    return "%0A".join(printable(line).replace("%", "%25") for line in text.split("\n"))


def _property(text: str) -> str:
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")


GATE_NODE = "vlm-gate::applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class JunitCase:
    """A test case that is not passed: failed, or an error where nothing could be judged."""

    nodeid: str
    test: str | None
    text: str
    is_error: bool = False


def junit_cases(report: GateReport) -> tuple[JunitCase, ...]:
    """Return what fails the gate, in the order of the report's cases."""
    cases = [one for case in report.cases for one in _cases_of(case, report.status)]
    if report.not_applied_because:
        reasons = _text(report.not_applied_because)
        cases.append(JunitCase(nodeid=GATE_NODE, test=None, text=reasons, is_error=True))
    return tuple(cases)


def _cases_of(case: CaseVerdict, status: GateStatus) -> Iterator[JunitCase]:
    standing = standing_of(case)
    if standing is Standing.FAILS:
        for phase in case.phases_that_are(Verdict.SLOWER):
            yield _case(case, phase.phase, _slower_text(case, phase))
        for budget in case.budgets:
            if budget.is_over:
                yield _case(case, f"{budget.quantity}-budget", _text([budget_text(budget)]))
    if standing is Standing.UNDECIDED and status is GateStatus.UNDECIDED:
        for phase in case.phases_that_are(Verdict.UNDECIDED):
            text = f"{phase.phase} is undecided: {change_text(phase.judgement)}"
            lines = (text, probably_text(phase))
            yield _case(case, phase.phase, _text(lines))
    if standing is Standing.NOT_APPLIED:
        nodeid = _nodeid(case, "gate")
        yield JunitCase(nodeid=nodeid, test=case.test, text=_text([case.reason]), is_error=True)


def _case(case: CaseVerdict, quantity: str, text: str) -> JunitCase:
    return JunitCase(nodeid=_nodeid(case, quantity), test=case.test, text=text)


def _nodeid(case: CaseVerdict, quantity: str) -> str:
    """Return `test_x.py::test_x:decode[512]`, as entries of pytest-benchmark are named."""
    test = case.test or case.case_id
    config = case.case_id.removeprefix(test)
    head, bracket, params = test.partition("[")
    told = params.removesuffix("]") + config if bracket else config
    return printable(f"{head}:{quantity}[{told}]" if told else f"{head}:{quantity}")


def _slower_text(case: CaseVerdict, phase: PhaseVerdict) -> str:
    before = "" if phase.baseline_ms is None else f", {phase.baseline_ms:.2f} ms before"
    lines = (
        f"{phase.phase} is slower: {change_text(phase.judgement)}",
        f"{phase.candidate_ms:.2f} ms{before}",
        shares_text(case),
        phase.judgement.reason,
    )
    return _text(lines)


def _text(lines: Iterable[str]) -> str:
    """Return lines as a text that XML can hold and a terminal can show."""
    return "\n".join(part for line in lines if line for part in printable_lines(line))
