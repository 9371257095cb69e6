"""A run that stopped early, with -x or --maxfail: what was measured is judged, the rest is named.

Owns which ends are such a stop, and what the report says of tests that were not reached. Beside
workers of pytest-xdist this process knows none of the tests, so only those of the baseline's
newest run are listed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import CaseState, CaseVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from pytest_vlmlatency.records import GateReport

NOT_REACHED = "not reached before the run was stopped"
UNKNOWN = "unknown"  # the device of what was never measured


def is_early_stop(end: BaseException) -> bool:
    """Whether pytest, or its workers' controller, ended the loop itself: nobody pressed Ctrl-C."""
    return type(end) is not KeyboardInterrupt and "keyboard-interrupt" not in str(end)


def stopped(report: GateReport, because: str, unreached: Iterable[pytest.Item]) -> GateReport:
    """Return the report of a run that was stopped, with the tests that it did not come to."""
    from pytest_vlmlatency.session.assembly import identify  # noqa: PLC0415 - only where it stopped

    named = {identify(item).id: item.name for item in unreached}  # a test's id, before its cases'
    judged = [
        replace(case, reason=NOT_REACHED)
        if case.state is CaseState.NOT_JUDGED and case.test in named
        else case
        for case in report.cases
    ]
    known = {case.test for case in judged}
    others = [
        CaseVerdict(
            case_id=test,
            case_name=name,
            test=test,
            device=UNKNOWN,
            state=CaseState.NOT_JUDGED,
            reason=NOT_REACHED,
        )
        for test, name in named.items()
        if test not in known
    ]
    return replace(report, cases=(*judged, *others), stopped_because=because)
