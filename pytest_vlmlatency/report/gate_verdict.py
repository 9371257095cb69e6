"""A gate's report for programs: the JSON verdict file that `--vlm-verdict` writes, and its run.

Owns its layout and its version. What a program would have to work out (the outcome in a word, what
fails, in which phases) is there ready-made; the whole GateReport stands beside it in plain form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem, reason_in_words
from pytest_vlmlatency.plain import from_plain, to_json
from pytest_vlmlatency.records import CaseState, GateReport, RunHeader, Verdict
from pytest_vlmlatency.report.gate_words import (
    failing_phases,
    failure_lines,
    outcome_of,
    probably_slower_lines,
    shares_text,
    standings,
    status_text,
    title_of,
)

if TYPE_CHECKING:
    from pathlib import Path

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
class ProbablySlowerCase:
    """A case with phases that are undecided and probably slower; `reasons` in words."""

    case_id: str
    test: str | None
    phases: tuple[str, ...]
    reasons: tuple[str, ...]


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
    probably_slower: tuple[ProbablySlowerCase, ...]
    report: GateReport


def verdict_json(report: GateReport) -> str:
    """Return the verdict file's text."""
    return to_json(verdict_file(report)) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRun:
    """The run that a verdict file is of: its header, and its cases' names by their ids."""

    title: str
    candidate: RunHeader | None
    names: Mapping[str, str]


def run_in_verdict(file: Path) -> VerdictRun:
    """Return the run that a verdict file is of; UsageProblem where it is no such file."""
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        version, report = plain["schema_version"], plain["report"]
        if version != VERDICT_SCHEMA_VERSION:
            raise ValueError(f"schema_version {version}; expected {VERDICT_SCHEMA_VERSION}")
        header = report["candidate"]
        named = {
            "title": plain["title"],
            "candidate": header,
            "names": {
                case["case_id"]: case["case_name"]
                for case in report["cases"]
                if case["state"] != CaseState.NOT_JUDGED
            },
        }
        return from_plain(VerdictRun, named)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, ExceptionGroup) as problem:
        raise UsageProblem(
            f"{file} is not a verdict file: {reason_in_words(problem)}; "
            f"expected one that --vlm-verdict wrote"
        ) from None


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
        probably_slower=tuple(
            ProbablySlowerCase(
                case_id=case.case_id,
                test=case.test,
                phases=tuple(phase.phase for phase in found),
                reasons=probably_slower_lines(case),
            )
            for case in report.cases
            if (found := case.phases_that_are_probably(Verdict.SLOWER))
        ),
        report=report,
    )
