"""Loaded into each launch with -p: runs the tests that were asked for, and tells what it saw.

What it tells, as JSON in a file: the tests that failed and why, and where every module came from
once all tests have run; and what this pytest's arguments came to. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.case_ids import id_of, path_of
from pytest_vlmlatency.paired.arguments import invocation_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

FIXTURE = "vlm_latency"
ASKED = "--vlm-asked"
INDEX = "GIT_INDEX_FILE"
"""The variable that keeps git off the user's index until every plugin has started."""

MODULE = "pytest_vlmlatency.paired.observer"
WITHOUT_CASES = "the test did not run"
NOT_COLLECTED = "the test was not collected"
NAME = "vlmlatency_test"
"""The attribute of a report that holds the name of its test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the file that says what to run and where to tell, for this package's own use."""
    parser.addoption(ASKED, metavar="FILE", type=Path, required=True, help="Internal.")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to observe, and let tests ask git what they like."""
    os.environ.pop(INDEX, None)
    asked = json.loads(config.getoption(ASKED).read_text(encoding="utf-8"))
    config.pluginmanager.register(Observer(config, **asked), "vlmlatency-observer")


class Observer:
    """Keeps the tests that were asked for, all of them if none is named, and remembers failures."""

    def __init__(self, config: pytest.Config, *, root: str, tests: list[str], told: str) -> None:
        self._config = config
        self._root = Path(root)
        self._tests = frozenset(tests)
        self._told = Path(told)
        self._failed: dict[str, str] = {}
        self._broken: dict[str, str] = {}
        self._collected: frozenset[str] = frozenset()
        self._found: list[pytest.Item] = []
        self._measuring: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Collect the files of what was asked for, whatever plugins made of pytest's arguments.

        What they select by `config.args` or by taking items off is overruled here: pytest's own
        collection calls this around all of its hooks, and ignores no file that it is given.
        """
        if not self._tests:
            return
        collect = session.perform_collect
        files = dict.fromkeys(str(self._root / _file_of(test)) for test in sorted(self._tests))

        def collect_what_was_asked(*_args: object, **_options: object) -> Sequence[object]:
            collect(list(files))
            self._choose(session.items)
            session.testscollected = len(session.items)
            self._see_measuring(session)
            return session.items

        vars(session)["perform_collect"] = collect_what_was_asked

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Run what was asked for, whatever other plugins and conftests deselect or split again."""
        self._found = list(items)
        self._collected = frozenset(id_of(item, self._root) for item in items)
        result = yield
        if self._tests:
            left_out = [item for item in items if id_of(item, self._root) not in self._tests]
            if left_out:
                config.hook.pytest_deselected(items=left_out)
            self._choose(items)
        return result

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Remember which of the tests that are left measure."""
        self._see_measuring(session)

    def _choose(self, items: list[pytest.Item]) -> None:
        """Leave what was asked for, each once: first what was left, in its order."""
        every = {id(item): item for item in (*items, *self._found)}.values()
        items[:] = [item for item in every if id_of(item, self._root) in self._tests]

    def _see_measuring(self, session: pytest.Session) -> None:
        measuring = filter(may_measure, session.items)
        self._measuring = [id_of(item, self._root) for item in measuring]

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Remember why a file could not be collected."""
        report = yield
        if report.failed:
            self._broken[path_of(collector.path, self._root)] = _last_line(report.longreprtext)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Name the test of a report: node ids of files outside of the rootdir are no names."""
        report = yield
        setattr(report, NAME, id_of(item, self._root))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember why a test failed, or was skipped; its last attempt counts."""
        test = getattr(report, NAME, report.nodeid)
        if report.when == "setup":
            self._failed.pop(test, None)
        if not report.passed:
            self._failed.setdefault(test, _reason(report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Tell it, once every test has imported what it needs."""
        for test in self._tests - self._collected:
            self._failed.setdefault(test, self._broken.get(_file_of(test), NOT_COLLECTED))
        told = {"failed": self._failed, "modules": modules_with_files(), **self._survey()}
        self._told.write_text(json.dumps(told), encoding="utf-8")

    def _survey(self) -> dict[str, object]:
        """Return how this pytest was called, and which of its tests measure."""
        called = invocation_of(self._config)
        return {
            "measuring": list(dict.fromkeys(self._measuring)),
            "options": called.options,
            "rootdir": str(called.rootdir),
            "inifile": None if called.inifile is None else str(called.inifile),
        }


def may_measure(item: pytest.Item) -> bool:
    """Whether a test requests the fixture: by an argument, by `request`, or its own marker says so.

    A test that requests it only by way of functions that it calls, or of steps of pytest-bdd, is
    found by the marker: a scenario's tag `@vlm_latency`.
    """
    if FIXTURE in getattr(item, "fixturenames", ()):
        return True
    if any(mark.name == FIXTURE for mark in item.own_markers):
        return True
    found = getattr(item, "_fixtureinfo", None)
    of_fixtures = getattr(found, "name2fixturedefs", {}).values()
    functions = [getattr(item, "function", None), *(defs[-1].func for defs in of_fixtures if defs)]
    return any(_names(getattr(function, "__code__", None), FIXTURE) for function in functions)


def _names(code: object, text: str) -> bool:
    """Whether code, or code within it, holds this text as a constant."""
    constants = getattr(code, "co_consts", ())
    return any(constant == text or _names(constant, text) for constant in constants)


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _reason(report: pytest.TestReport) -> str:
    if report.skipped:
        longrepr = report.longrepr
        return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr)
    crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None)
    return str(crash or _last_line(report.longreprtext)).splitlines()[0]


def modules_with_files() -> dict[str, str]:
    """Return the file of every module that was imported from one, by its name.

    The import system makes these paths absolute. A relative one was made up by a module itself,
    as torch.ops does, and would be looked for in whatever folder is the working directory.
    """
    files = {name: getattr(module, "__file__", None) for name, module in [*sys.modules.items()]}
    return {name: file for name, file in files.items() if file and Path(file).is_absolute()}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("E").strip() if lines else WITHOUT_CASES
