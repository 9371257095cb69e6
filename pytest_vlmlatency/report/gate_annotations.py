"""A gate's report as GitHub's annotations: a line in the log for each test, shown at the test.

Pure. Owns the words, their order and their escaping; who has found out where a test stands, and
that GitHub is listening, passes it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import printable
from pytest_vlmlatency.records import GateStatus, Verdict
from pytest_vlmlatency.report.gate_standing import Standing, named_apart, outcome_of, standings
from pytest_vlmlatency.report.gate_words import (
    change_text,
    failing_phases,
    failure_lines,
    listed,
    probably_slower_lines,
    probably_text,
    quarantine_text,
    shares_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.records import CaseVerdict, GateReport

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
