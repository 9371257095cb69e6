"""The controller's side: cases as they arrive, and what is made of them at the end.

Without pytest-xdist the single process is its own controller. Owns when things happen (on arrival,
at the end of the session, in the summary); each thing itself is another module's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.delivery import parcel_on

if TYPE_CHECKING:
    from collections.abc import Mapping


class Inbox:
    """Collects what workers, or this process, deliver; registered as a plugin of its own."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cases: list[Mapping[str, object]] = []
        self._expected: dict[str, str] = {}
        self._lost: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a report carries."""
        parcel = parcel_on(report)
        if parcel is not None:
            self._expected[report.nodeid] = parcel["test"]
            self._cases += parcel["cases"]
        if report.when == "call":
            self._expected.pop(report.nodeid, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Remember a test whose worker died before it could deliver."""
        if crashitem in self._expected:
            self._lost.append(self._expected.pop(crashitem))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of all cases."""
        if not self._cases and not self._lost:
            return
        terminalreporter.section("vlm latency")
