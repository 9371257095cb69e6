"""A run that stopped early, with -x or --maxfail: what was measured is judged, the rest is named.

Owns which ends are such a stop, that signals end a run in order, and what the report has of tests
that were not reached. Beside workers of pytest-xdist this process knows none of the tests, so only
those of the baseline's newest run are listed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.records import CaseState, CaseVerdict
from pytest_vlmlatency.signals import Terminated, ending_signals_raise

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_vlmlatency.records import GateReport

_ENDS_IN_ORDER = pytest.StashKey[bool]()
NOT_REACHED = "not reached before the run was stopped"
UNKNOWN = "unknown"  # the device of what was never measured


def is_early_stop(end: BaseException) -> bool:
    """Whether pytest, or its workers' controller, ended the loop itself: no signal did."""
    is_from_outside = type(end) in (KeyboardInterrupt, Terminated)
    return not is_from_outside and "keyboard-interrupt" not in str(end)


def end_in_order(config: pytest.Config) -> None:
    """Let SIGTERM and SIGHUP end this run as Ctrl-C does, until pytest is done."""
    if not config.stash.get(_ENDS_IN_ORDER, False):
        config.stash[_ENDS_IN_ORDER] = True
        until_the_end = ExitStack()
        until_the_end.enter_context(ending_signals_raise())
        config.add_cleanup(until_the_end.close)


def stopped(report: GateReport, because: str, unreached: Iterable[pytest.Item]) -> GateReport:
    """Return the report of a run that was stopped, with the tests that it did not come to."""
    from pytest_vlmlatency.session.measurement import identify  # noqa: PLC0415 - only where it stopped

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
