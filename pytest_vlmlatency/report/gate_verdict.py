"""A gate's report for programs: the JSON verdict file that `--vlm-verdict` writes.

Owns its layout and its version. What a program would have to work out (the outcome in a word, what
fails, in which phases) is there ready-made; the whole GateReport stands beside it in plain form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vlmlatency.plain import to_json
from pytest_vlmlatency.records import GateReport
from pytest_vlmlatency.report.gate_standing import outcome_of, standings, status_text, title_of
from pytest_vlmlatency.report.gate_words import failing_phases, failure_lines, shares_text

VERDICT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingCase:
    """A case that fails the gate, with what fails in it: phases, or quantities over a budget."""

    case_id: str
    test: str | None
    phases: tuple[str, ...]
    reasons: tuple[str, ...]
    shares: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictFile:
    """The file. `status` is the gate's exit status, `outcome` its name in lower case.

    `n_cases` counts the cases by what became of them; those without any are left out.
    """

    schema_version: int
    status: int
    outcome: str
    title: str
    message: str
    n_cases: Mapping[str, int]
    failing: tuple[FailingCase, ...]
    report: GateReport


def verdict_json(report: GateReport) -> str:
    """Return the verdict file's text."""
    return to_json(verdict_file(report)) + "\n"


def verdict_file(report: GateReport) -> VerdictFile:
    """Return what the verdict file says of a report."""
    outcomes = [outcome_of(case) for cases in standings(report).values() for case in cases]
    return VerdictFile(
        schema_version=VERDICT_SCHEMA_VERSION,
        status=report.status.value,
        outcome=report.status.name.lower(),
        title=title_of(report),
        message=status_text(report),
        n_cases={outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
        failing=tuple(
            FailingCase(
                case_id=case.case_id,
                test=case.test,
                phases=failing_phases(case),
                reasons=failure_lines(case),
                shares=shares_text(case),
            )
            for case in report.cases
            if case.fails
        ),
        report=report,
    )
