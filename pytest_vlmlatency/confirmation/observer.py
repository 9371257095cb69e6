"""Loaded into each launch with -p: runs the tests that were asked for, and tells what it saw.

What it tells, as JSON in a file: the tests that failed and why, and where every module came from
once all tests have run; and what this pytest's arguments came to. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pytest_vlmlatency.case_ids import id_of
from pytest_vlmlatency.confirmation.arguments import invocation_of

FIXTURE = "vlm_latency"
ASKED = "--vlm-asked"
INDEX = "GIT_INDEX_FILE"
"""The variable that keeps git off the user's index until every plugin has started."""

MODULE = "pytest_vlmlatency.confirmation.observer"
WITHOUT_CASES = "the test did not run"
NOT_COLLECTED = "the test was not collected"


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
        self._seen: dict[str, str] = {}
        self._measuring: list[str] = []

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what was not asked for."""
        self._seen = {item.nodeid: id_of(item, self._root) for item in items}
        self._measuring = [
            self._seen[item.nodeid]
            for item in items
            if FIXTURE in getattr(item, "fixturenames", ())
        ]
        chosen = [i for i in items if not self._tests or self._seen[i.nodeid] in self._tests]
        left_out = [item for item in items if item not in chosen]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = chosen

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Remember why a file could not be collected, for each of its tests."""
        if report.failed:
            file = report.nodeid.partition("::")[0]
            reason = _last_line(report.longreprtext)
            of_file = (test for test in self._tests if _file_of(test).endswith(file))
            self._failed.update((test, reason) for test in of_file)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember why a test failed, or was skipped."""
        if report.passed:
            return
        test = self._seen.get(report.nodeid, report.nodeid)
        self._failed.setdefault(test, _reason(report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Tell it, once every test has imported what it needs."""
        collected = set(self._seen.values())
        for test in self._tests - collected:
            self._failed.setdefault(test, NOT_COLLECTED)
        told = {"failed": self._failed, "modules": modules_with_files(), **self._survey()}
        self._told.write_text(json.dumps(told), encoding="utf-8")

    def _survey(self) -> dict[str, object]:
        """Return how this pytest was called, and which of all tests measure."""
        called = invocation_of(self._config)
        return {
            "measuring": list(dict.fromkeys(self._measuring)),
            "options": called.options,
            "rootdir": str(called.rootdir),
            "inifile": None if called.inifile is None else str(called.inifile),
        }


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
