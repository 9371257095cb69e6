"""A gate's report for a terminal: what fails first, and the same in one line.

Pure: a GateReport in, lines with a tone out. Whoever prints them knows the terminal and its
colours. `compare` and `ab` print the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import plural, printable_lines
from pytest_vlmlatency.records import TOTAL, CaseVerdict, GateStatus, PhaseVerdict, Verdict
from pytest_vlmlatency.report.gate_words import (
    Standing,
    budget_text,
    change_text,
    effect_text,
    heading_of,
    probably_text,
    quarantine_text,
    remarks_on,
    shares_text,
    standings,
    status_text,
)
from pytest_vlmlatency.report.terminal import (
    SPREADS,
    Column,
    aligned,
    fitted,
    row_text,
    some,
    wrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.records import GateReport

RESET = "\033[0m"


class Tone(StrEnum):
    """How a line is to be taken; a terminal with colours shows it."""

    PLAIN = "plain"
    BAD = "bad"
    WARNING = "warning"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text, no longer than the terminal is wide."""

    text: str
    tone: Tone = Tone.PLAIN


ANSI = {Tone.PLAIN: "", Tone.BAD: "\033[31m", Tone.WARNING: "\033[33m", Tone.GOOD: "\033[32m"}

_TONES = {
    Standing.FAILS: Tone.BAD,
    Standing.NOT_APPLIED: Tone.BAD,
    Standing.UNDECIDED: Tone.WARNING,
    Standing.QUARANTINED: Tone.WARNING,
    Standing.FASTER: Tone.GOOD,
}
_IN_SHORT = frozenset({Standing.NEW, Standing.NOT_JUDGED, Standing.SAME})


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the table: a case's phase, or a case without any."""

    case: CaseVerdict
    phase: PhaseVerdict | None
    is_first: bool


def gate_lines(
    report: GateReport, *, width: int | None, is_verbose: bool = False
) -> tuple[Line, ...]:
    """Return the section below its title; `is_verbose` lists every phase of every case.

    `width` is the terminal's, None for output that nobody wraps, such as a log.
    """
    reasons = [f"Not applied: {reason}" for reason in report.not_applied_because]
    lines = [Line(text, Tone.BAD) for text in wrapped(reasons, width)]
    groups = standings(report)
    if groups:
        lines += _table(groups, width=width, is_verbose=is_verbose, is_strict=report.is_strict)
    has_times = is_verbose or not _IN_SHORT.issuperset(groups)
    prose = _prose(report, has_times=has_times, is_verbose=is_verbose)
    lines += [Line(text) for text in wrapped(prose, width)]
    tone = Tone.GOOD if report.status is GateStatus.PASSED else Tone.BAD
    return (*lines, *(Line(text, tone) for text in wrapped([status_text(report)], width)))


def coloured(lines: Sequence[Line], *, has_colours: bool) -> str:
    """Return lines as one printable text, each in the colour of its tone if there are colours."""
    return "\n".join(
        f"{ANSI[line.tone]}{text}{RESET}" if has_colours and ANSI[line.tone] else text
        for line in lines
        for text in printable_lines(line.text)
    )


def _table(
    groups: Mapping[Standing, Sequence[CaseVerdict]],
    *,
    width: int | None,
    is_verbose: bool,
    is_strict: bool,
) -> list[Line]:
    shown = {
        standing: [row for case in cases for row in _rows(case, is_verbose=is_verbose)]
        for standing, cases in groups.items()
        if is_verbose or standing not in _IN_SHORT
    }
    rows = [row for rows in shown.values() for row in rows]
    columns, left_out = fitted(_columns(rows), width)
    texts = [row_text(columns, index) for index in range(-1, len(rows))]
    rule = "-" * max(map(len, texts))
    lines = [Line(texts[0]), Line(rule)] if rows else []
    remaining = iter(texts[1:])
    for standing, cases in groups.items():
        heading = heading_of(standing, is_strict=is_strict)
        if standing not in shown:
            lines += [Line(text) for text in wrapped(_in_short(standing, cases), width)]
            continue
        tone = _tone(standing, is_strict=is_strict)
        lines.append(Line(heading, tone))
        last_rows = {id(row.case): row for row in shown[standing]}
        for row in shown[standing]:
            lines.append(Line(next(remaining), _tone_of(row, tone)))
            if row is last_rows[id(row.case)]:
                lines += _details(row.case, width=width, is_verbose=is_verbose)
    if left_out:
        told = ", ".join("intervals" if name == SPREADS else name for name in left_out)
        hidden = f"Columns hidden (terminal too narrow): {told}."
        lines += [Line(text) for text in wrapped([hidden], width)]
    return [*lines, Line(rule)] if rows else lines


def _tone(standing: Standing, *, is_strict: bool) -> Tone:
    if standing is Standing.UNDECIDED and is_strict:
        return Tone.BAD
    return _TONES.get(standing, Tone.PLAIN)


def _in_short(standing: Standing, cases: Sequence[CaseVerdict]) -> list[str]:
    """Return a group in one line, or one for each reason."""
    if standing is Standing.SAME:
        n_phases = sum(len(case.phases) for case in cases)
        number = f"{plural(len(cases), 'case')}, {plural(n_phases, 'phase')}"
        return [f"same: {number} (-v lists them)"]
    names: dict[str, list[str]] = {}
    for case in cases:
        names.setdefault(case.reason, []).append(case.case_name)
    return [
        f"{standing}, {reason}: {some(told)}" if reason else f"{standing}: {some(told)}"
        for reason, told in names.items()
    ]


def _rows(case: CaseVerdict, *, is_verbose: bool) -> Iterator[_Row]:
    """Yield a row for each phase that says something, and for the total; one at least."""
    told = [
        phase
        for phase in case.phases
        if is_verbose or phase.judgement.verdict is not Verdict.SAME or phase.phase == TOTAL
    ]
    for index, phase in enumerate(told or [None]):
        yield _Row(case, phase, is_first=index == 0)


def _tone_of(row: _Row, tone: Tone) -> Tone:
    """Return the group's tone for what puts a case into it, none for its other phases."""
    is_same = row.phase is not None and row.phase.judgement.verdict is Verdict.SAME
    return Tone.PLAIN if is_same else tone


def _columns(rows: Sequence[_Row]) -> tuple[Column, ...]:
    phases = [row.phase for row in rows]
    judgements = [phase.judgement if phase else None for phase in phases]
    before = [phase.baseline_ms if phase else None for phase in phases]
    now = [phase.candidate_ms if phase else None for phase in phases]
    names = tuple(row.case.case_name if row.is_first else "" for row in rows)
    figures = (
        _words("phase", [phase.phase if phase else "" for phase in phases]),
        _words("verdict", [str(one.verdict) if one else "" for one in judgements]),
        Column(header="before", cells=_times(before, phases), drop=2),
        Column(header="now", cells=_times(now, phases), drop=1),
        Column(
            header="change",
            cells=tuple(change_text(one) if one else "" for one in judgements),
            medians=tuple(effect_text(one).partition(" [")[0] if one else "" for one in judgements),
            is_left=True,
        ),
    )
    told = (column for column in figures if any(column.cells))
    return (Column(header="name", cells=names, is_left=True), *told)


def _words(header: str, cells: Sequence[str]) -> Column:
    return Column(header=header, cells=tuple(cells), is_left=True)


def _times(
    times_ms: Sequence[float | None], phases: Sequence[PhaseVerdict | None]
) -> tuple[str, ...]:
    texts = aligned([None if time_ms is None else (time_ms, None) for time_ms in times_ms])
    return tuple(text if phase else "" for text, phase in zip(texts, phases, strict=True))


def _details(case: CaseVerdict, *, width: int | None, is_verbose: bool) -> list[Line]:
    """Return what stands below the rows of a case, set in."""
    over = [Line(budget_text(budget), Tone.BAD) for budget in case.budgets if budget.is_over]
    kept = [Line(budget_text(one)) for one in case.budgets if is_verbose and not one.is_over]
    probable = [
        Line(probably_text(phase), Tone.BAD if phase.probably is Verdict.SLOWER else Tone.PLAIN)
        for phase in case.phases
    ]
    told = (Verdict.UNDECIDED,) if not is_verbose else tuple(Verdict)
    reasons = [
        Line(f"{phase.phase}: {phase.judgement.reason}")
        for phase in case.phases
        if phase.judgement.verdict in told and phase.judgement.reason
    ]
    is_past = case.is_quarantine_past
    quarantine = Line(quarantine_text(case), Tone.BAD if is_past else Tone.PLAIN)
    shares = Line(shares_text(case))
    details = [*probable, shares, *over, *kept, Line(case.reason), *reasons, quarantine]
    return [
        Line(f"  {part}", detail.tone)
        for detail in details
        if detail.text
        for part in wrapped([detail.text], width and width - 2)
    ]


def _prose(report: GateReport, *, has_times: bool, is_verbose: bool) -> list[str]:
    sides = (side for one in report.confirmations for side in one.imported.items())
    imported = [f"Imported by the {side}: {', '.join(paths)}" for side, paths in sides]
    remarks = remarks_on(report, has_times=has_times)
    return [*remarks, *(imported if is_verbose else [])]
