from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from pytest_vlmlatency import plain as plain_records
from pytest_vlmlatency.records import Case
from pytest_vlmlatency.session import results
from pytest_vlmlatency.session.delivery import Inbox, Parcel, packed, parcel_on
from tests.cases import a_case
from tests.runs import an_environment


def a_report(when: str, *, is_measured: bool = False) -> pytest.TestReport:
    parcel = Parcel(
        test="test_x.py::test_caption",
        cases=[packed(a_case())] if is_measured else [],
        environment=packed(an_environment()) if is_measured else "",
        waited_ms=0.0,
    )
    report = SimpleNamespace(nodeid="test_x.py::test_caption", when=when, vlm_latency=parcel)
    return cast("pytest.TestReport", report)


def test_a_test_that_is_run_again_after_its_worker_died_is_not_lost(
    pytester: pytest.Pytester,
) -> None:
    inbox = Inbox(pytester.parseconfig())
    inbox.pytest_runtest_logreport(a_report("setup"))
    inbox.pytest_handlecrashitem("test_x.py::test_caption")
    lost_before = inbox.lost

    inbox.pytest_runtest_logreport(a_report("setup"))
    inbox.pytest_runtest_logreport(a_report("call", is_measured=True))

    assert (lost_before, inbox.lost) == (("test_x.py::test_caption",), ())


def test_a_report_that_pytest_keeps_holds_no_case_once_it_arrived(
    pytester: pytest.Pytester,
) -> None:
    inbox = Inbox(pytester.parseconfig())
    report = a_report("call", is_measured=True)

    inbox.pytest_runtest_logreport(report)

    parcel = parcel_on(report)
    assert parcel is not None
    assert (parcel["test"], parcel["cases"]) == ("test_x.py::test_caption", ())


def test_each_case_is_read_once_for_the_run_and_the_table(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []

    def from_plain(kind: type[object], plain: dict[str, object]) -> object:
        read.append(kind)
        return plain_records.from_plain(kind, plain)

    monkeypatch.setattr(results, "from_plain", from_plain)
    inbox = Inbox(pytester.parseconfig())
    inbox.pytest_runtest_logreport(a_report("call", is_measured=True))

    run = inbox.run()
    inbox.pytest_terminal_summary(pytest.TerminalReporter(pytester.parseconfig()))

    assert run is not None
    assert [case.name for case in run.cases] == [a_case().name]
    assert read.count(Case) == 1
