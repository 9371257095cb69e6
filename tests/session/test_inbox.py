from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from pytest_vlmlatency.session.delivery import Parcel, plain_builtins
from pytest_vlmlatency.session.inbox import Inbox
from tests.cases import a_case

if TYPE_CHECKING:
    import pytest


def a_report(when: str, *, is_measured: bool = False) -> pytest.TestReport:
    parcel = Parcel(
        test="test_x.py::test_caption",
        cases=[plain_builtins(a_case())] if is_measured else [],
        environment={},
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
