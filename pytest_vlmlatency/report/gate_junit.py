"""A gate's report as test cases for JUnit XML: one for each phase that fails, named by it.

Pure. Passing phases are no test cases, so that a gate does not change how many tests there are;
raw samples stay out. pytest's own writer makes the XML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import printable, printable_lines
from pytest_vlmlatency.records import GateStatus, Verdict
from pytest_vlmlatency.report.gate_standing import Standing, standing_of
from pytest_vlmlatency.report.gate_words import budget_text, change_text, probably_text, shares_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_vlmlatency.records import CaseVerdict, GateReport, PhaseVerdict

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
