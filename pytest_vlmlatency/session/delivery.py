"""Cases on their way from the process that measured them to the one that reports them.

A test's report carries them as JSON texts: pytest-xdist ships a report's attributes, so a run with
workers and one without take the same path, and what was sent survives a later crash of its worker.
The environment, and which files the process imported, travel with them, so that the controller of a
run with workers needs no torch.

The controller's side: parcels as they arrive, and when something is made of them.

Without pytest-xdist the single process is its own controller. Owns the moments: on arrival, when a
worker dies, at the end, in the summary. What happens then is `results`'s, which is loaded once
there is something to do.
"""

from __future__ import annotations

import sys
import zlib
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NotRequired, TypedDict

import pytest

from pytest_vlmlatency.errors import HistoryProblem, RecordsProblem
from pytest_vlmlatency.printing import print_line
from pytest_vlmlatency.records import GateStatus
from pytest_vlmlatency.versions import installed_versions, untested_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.history.benchmark import Entry
    from pytest_vlmlatency.records import Case, Run
    from pytest_vlmlatency.session.predicting import Forecast


ATTRIBUTE = "vlm_latency"
USAGE_PROBLEM = "vlm_latency_usage_problem"
"""The key of `workeroutput` under which a worker says why no test can run."""


class Parcel(TypedDict):
    """What a report carries: the test, and its cases once they are measured, each as JSON.

    A text takes a tenth of what the same values take as dicts, and thousands wait for the end.
    """

    test: str
    cases: Sequence[str]
    environment: str
    waited_ms: float
    imported: NotRequired[Sequence[str]]


def attach(report: pytest.TestReport, fixture: VlmLatency) -> None:
    """Put the cases of a test on a report of it, once; the setup's report announces the test."""
    unsent = fixture.take_unsent()
    measurement = fixture.measurement
    if unsent or report.when == "setup":
        parcel = Parcel(
            test=measurement.identity.test or report.nodeid,
            cases=[packed(case) for case in unsent],
            environment=_environment(measurement.devices) if unsent else "",
            waited_ms=measurement.waited_ms,
        )
        if unsent:
            parcel["imported"] = _imported()
        setattr(report, ATTRIBUTE, parcel)


def parcel_on(report: pytest.TestReport) -> Parcel | None:
    """Return what a report carries, None if it is no report of a test that measures."""
    return getattr(report, ATTRIBUTE, None)


def packed(record: object) -> str:
    """Return a record as a report carries it."""
    from pytest_vlmlatency.plain import to_json  # noqa: PLC0415 - only where something was measured

    return to_json(record, indent=None)


def _imported() -> Sequence[str]:
    """Return the files that this process imported, but those of installed packages."""
    from pytest_vlmlatency.paired.imports import own_files  # noqa: PLC0415 - as above

    return own_files()


@cache
def _environment(devices: tuple[torch.device, ...]) -> str:
    from pytest_vlmlatency.machine.environment import read_environment  # noqa: PLC0415 - as above

    return packed(read_environment(devices))


NAME = "vlmlatency-inbox"
_OF_A_GATE = frozenset(GateStatus) - {GateStatus.PASSED}


def inbox_of(config: pytest.Config) -> Inbox:
    """Return the run's inbox, registered by the first who asks."""
    inbox: Inbox | None = config.pluginmanager.get_plugin(NAME)
    if inbox is None:
        inbox = Inbox(config)
        config.pluginmanager.register(inbox, NAME)
    return inbox


class Inbox:
    """Collects what workers, or this process, deliver; registered as a plugin of its own."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._parcels: dict[str, Parcel] = {}
        self._packed: dict[str, list[bytes]] = {}
        self._cases: tuple[Case, ...] | None = None
        self._imported: set[str] = set()
        self._entries: dict[str, Sequence[Entry]] = {}
        self._announced: dict[str, str] = {}
        self._tests: set[str] = set()
        self._lost: list[str] = []
        self._said: list[str] = []
        self._has_tests = False
        self._run: Run | None = None
        self._forecast: Forecast | None = None

    @property
    def lost(self) -> tuple[str, ...]:
        """The tests that died with their worker before they could deliver."""
        return tuple(self._lost)

    @property
    def imported(self) -> frozenset[str]:
        """The files that the measuring processes imported."""
        return frozenset(self._imported)

    def predict_with(self, forecast: Forecast) -> None:
        """Lay the predictions of an estimator beside all that is measured."""
        self._forecast = forecast

    def run(self) -> Run | None:
        """Return the run as one, the same each time: to be called once all have delivered."""
        if self._run is None and self._parcels:
            from pytest_vlmlatency.session import keeping, results  # noqa: PLC0415 - light start-up

            self._run = results.run_of(
                self._measured(),
                environments=dict.fromkeys(one["environment"] for one in self._parcels.values()),
                lost=self._lost,
                started_at=self._started_at,
                root=keeping.home_of(self._config),
            )
            if self._forecast is not None:
                self._run = self._forecast.beside(self._run)
        return self._run

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a report carries; the setup's announces a test, a later one settles it."""
        parcel = parcel_on(report)
        if parcel is not None:
            self._has_tests = True
            self._announced[report.nodeid] = parcel["test"]
            self._tests.add(parcel["test"])
            if parcel["cases"]:
                self._receive(parcel)
        if report.when != "setup":
            self._announced.pop(report.nodeid, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """Remember a test whose worker died before it could deliver."""
        if crashitem in self._announced:
            self._lost.append(self._announced.pop(crashitem))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """End the run if a worker found that what was asked for cannot be."""
        problem = getattr(node, "workeroutput", {}).get(USAGE_PROBLEM)
        if problem is not None:
            raise pytest.UsageError(problem)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save the run, export it and keep it; one that could not be has failed."""
        asked = {name: self._config.getoption(name, None) for name in ("vlm_json", "vlm_export")}
        targets: dict[str, Path] = {name: path for name, path in asked.items() if path is not None}
        if not self._parcels:
            self._said += self._unwritten(targets)
            return
        from pytest_vlmlatency.session import keeping  # noqa: PLC0415 - light start-up

        history = keeping.history_of(self._config)
        if history is None:
            self._said += keeping.why_not_kept(self._config)
            if not targets:
                return
        run = self.run()
        assert run is not None, "there are parcels"
        self._write(session, run, targets)
        try:
            if history is not None:
                self._said.append(keeping.keep(run, history, root=keeping.home_of(self._config)))
                self._said += keeping.moved_root(self._config)
        except (HistoryProblem, OSError) as problem:
            self._fail(session, str(problem))

    def _unwritten(self, targets: Mapping[str, Path]) -> Iterator[str]:
        """Yield what comes of it that nothing was measured."""
        for name, path in targets.items():
            of = f"--{name.replace('_', '-')}"
            yield f"{of}: nothing was measured, so {path} was not written."
        if self._forecast is not None:
            yield "--vlm-predict: nothing was measured beside which to predict."

    def _write(self, session: pytest.Session, run: Run, targets: Mapping[str, Path]) -> None:
        from pytest_vlmlatency.session import results  # noqa: PLC0415 - only where something was measured

        path = targets.get("vlm_json")
        try:
            if path is not None:
                self._said.append(results.save(run, path))
        except OSError as problem:
            self._fail(session, f"--vlm-json: {problem}")
        try:
            if "vlm_export" in targets:
                self._said += results.export(run, targets["vlm_export"])
        except RecordsProblem as problem:
            self._fail(session, f"--vlm-export: {problem}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of all cases, and what became of the others."""
        if self._tests and not self._parcels:
            from pytest_vlmlatency.session.settings import off_because  # noqa: PLC0415 - light start-up

            if option := off_because(self._config):
                number = "1 test" if len(self._tests) == 1 else f"{len(self._tests)} tests"
                print_line(
                    terminalreporter, f"Measuring is off ({option}): {number} ran without it."
                )
        untested = untested_lines(installed_versions()) if self._has_tests else ()
        if self._parcels or self._lost or self._said or untested:
            from pytest_vlmlatency.session import results  # noqa: PLC0415 - only where there is something

            run = None if self._forecast is None else self.run()
            results.print_summary(
                terminalreporter,
                self._measured() if run is None else run.cases,
                waited_ms=sum(parcel["waited_ms"] for parcel in self._parcels.values()),
                lost=self._lost,
                remarks=self._said,
                untested=untested,
            )

    def _fail(self, session: pytest.Session, why: str) -> None:
        """Report what could not be kept, and fail the run; a gate's own status is reported."""
        self._said.append(why)
        if session.exitstatus not in _OF_A_GATE:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    def _measured(self) -> tuple[Case, ...]:
        """Return all cases in the order of their arrival, once all have delivered.

        Each is read once, and its text is let go: thousands of cases fit in memory once.
        """
        if self._cases is None:
            from pytest_vlmlatency.session import results  # noqa: PLC0415 - only where something was measured

            cases: list[Case] = []
            for test, parcel in self._parcels.items():
                parcel["cases"] = [zlib.decompress(one).decode() for one in self._packed.pop(test)]
                cases += results.cases_of(parcel)
                parcel["cases"] = ()
            self._cases = tuple(cases)
        return self._cases

    def _receive(self, parcel: Parcel) -> None:
        """Keep a test's cases; those of a later attempt at it take the place of the earlier's.

        They are taken off the report, which pytest and other plugins keep until the end.
        """
        from pytest_vlmlatency.session import results  # noqa: PLC0415 - only where something was measured

        test = parcel["test"]
        self._imported.update(parcel.get("imported", ()))
        kept = Parcel(
            test=test,
            cases=parcel["cases"],
            environment=sys.intern(parcel["environment"]),
            waited_ms=parcel["waited_ms"],
        )
        parcel["cases"] = parcel["imported"] = ()
        parcel["environment"] = ""
        self._parcels[test] = kept
        self._packed[test] = [zlib.compress(one.encode(), 1) for one in kept["cases"]]
        if test in self._lost:  # run again after its worker had died
            self._lost.remove(test)
        before = self._entries.get(test, ())
        self._entries[test] = results.hand_to_benchmark(self._config, kept, instead_of=before)
        kept["cases"] = ()
