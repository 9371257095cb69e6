"""A gate's report as Markdown: a file of one's own, or GitHub's summary of a step.

Pure. Owns the layout and the escaping; a limit on its size leaves out the least important first,
and says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import plural, printable
from pytest_vlmlatency.records import TOTAL, Verdict
from pytest_vlmlatency.report.gate_words import (
    Standing,
    budget_text,
    change_text,
    heading_of,
    probably_text,
    quarantine_text,
    remarks_on,
    shares_text,
    standings,
    status_text,
    title_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_vlmlatency.records import CaseVerdict, GateReport, PhaseVerdict

HEADER = """\
| case | phase | verdict | before, ms | now, ms | change |
| --- | --- | --- | ---: | ---: | --- |"""
FOLDED = frozenset({Standing.NEW, Standing.NOT_JUDGED, Standing.SAME})
CASES_LEFT = (1000, 300, 100, 30, 10, 3, 0)
"""How many cases of each group are tried in turn where a whole report is too large."""
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&@$])")
_LINK = re.compile(r"[@#](?=\w)|(?<=\w):(?=//)|\bwww(?=\.)")
"""What GitHub makes a mention, a reference or a link of, also where a backslash is before it."""
_BLOCK = re.compile(r"^(?:[-+=]|\d+(?=[.)]))")
"""What begins a list, a heading or a rule; behind the number of a list its dot is escaped."""
UNLINKED = "&#8203;"  # a space without width


def gate_markdown(report: GateReport) -> str:
    """Return the whole report."""
    return _page(report, most_cases=None)


def gate_markdown_within(report: GateReport, *, n_bytes: int) -> str | None:
    """Return as much of the report as fits into so many bytes of UTF-8, None if nothing does."""
    for most_cases in (None, *CASES_LEFT):
        text = _page(report, most_cases=most_cases)
        if len(text.encode()) <= n_bytes:
            return text
    return None


def code(text: str) -> str:
    """Return text as code, in a cell of a table too, whatever it contains."""
    line = printable(" ".join(text.split()))
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{fence}{padding}{line}{padding}{fence}".replace("|", r"\|")


def prose(text: str) -> str:
    """Return text that Markdown shows as it is."""
    line = _SPECIAL.sub(r"\\\1", printable(" ".join(text.split())))
    line = _LINK.sub(lambda found: f"{found[0]}{UNLINKED}", line)
    return _BLOCK.sub(lambda found: f"{UNLINKED}{found[0]}", line)


def _page(report: GateReport, *, most_cases: int | None) -> str:
    blocks = [f"### {prose(title_of(report))}", f"**{prose(status_text(report))}**"]
    blocks += [f"**Not applied:** {prose(reason)}" for reason in report.not_applied_because]
    for standing, cases in standings(report).items():
        blocks += _group(standing, cases, report, most_cases=most_cases)
    remarks = remarks_on(report, has_times=True)
    blocks += [prose(text) for text in remarks[:most_cases]]
    if most_cases is not None and len(remarks) > most_cases:
        blocks.append(_left_out(len(remarks) - most_cases, "remark"))
    return "\n\n".join(blocks) + "\n"


def _group(
    standing: Standing,
    cases: Sequence[CaseVerdict],
    report: GateReport,
    *,
    most_cases: int | None,
) -> Iterator[str]:
    shown = cases if most_cases is None else cases[:most_cases]
    n_phases = sum(len(case.phases) for case in cases)
    number = plural(len(cases), "case") + (f", {plural(n_phases, 'phase')}" if n_phases else "")
    heading = f"{heading_of(standing, is_strict=report.is_strict)} ({number})"
    if standing in FOLDED:
        yield f"<details><summary>{heading}</summary>"
    else:
        yield f"#### {heading}"
    if shown and n_phases:
        yield "\n".join([HEADER, *(row for case in shown for row in _rows(case, standing))])
    if details := [item for case in shown for item in _items(case)]:
        yield "\n".join(details)
    if len(shown) < len(cases):
        yield _left_out(len(cases) - len(shown), "case")
    if standing in FOLDED:
        yield "</details>"


def _left_out(number: int, noun: str) -> str:
    return f"{plural(number, noun)} left out, for want of room."


def _rows(case: CaseVerdict, standing: Standing) -> Iterator[str]:
    """Yield a row for each phase that says something, and for the total; one at least."""
    told = [
        phase
        for phase in case.phases
        if standing is Standing.SAME
        or phase.judgement.verdict is not Verdict.SAME
        or phase.phase == TOTAL
    ]
    if not told:
        yield f"| {code(case.case_name)} | | | | | |"
    for index, phase in enumerate(told):
        yield _row(code(case.case_name) if index == 0 else "", phase)


def _row(name: str, phase: PhaseVerdict) -> str:
    verdict = str(phase.judgement.verdict)
    is_loud = phase.judgement.verdict is not Verdict.SAME
    before = "" if phase.baseline_ms is None else f"{phase.baseline_ms:.2f}"
    cells = (
        name,
        prose(phase.phase),
        f"**{verdict}**" if is_loud else verdict,
        before,
        f"{phase.candidate_ms:.2f}",
        change_text(phase.judgement),
    )
    return f"| {' | '.join(cells)} |"


def _items(case: CaseVerdict) -> list[str]:
    """Return what is said below the table; the name alone of a case that has no row."""
    items = [f"- {code(case.case_name)}: {text}" for text in _details(case)]
    return items or ([] if case.phases else [f"- {code(case.case_name)}"])


def _details(case: CaseVerdict) -> Iterator[str]:
    """Yield what there is to say of a case beside its rows."""
    yield from (f"**{prose(budget_text(one))}**" for one in case.budgets if one.is_over)
    yield from (f"**{prose(text)}**" for text in map(probably_text, case.phases) if text)
    reasons = (
        f"{phase.phase}: {phase.judgement.reason}"
        for phase in case.phases_that_are(Verdict.UNDECIDED)
        if phase.judgement.reason
    )
    said = (shares_text(case), case.reason, *reasons)
    yield from (prose(text) for text in said if text)
    if text := quarantine_text(case):
        yield f"**{prose(text)}**" if case.is_quarantine_past else prose(text)
