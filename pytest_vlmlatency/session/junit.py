"""What fails the gate, put into pytest's own JUnit XML.

pytest writes that file when it ends, from the reports that its writer was given. The writer is
given ours beside them: not by the hook, so that nothing else counts them as tests. The key of the
writer is private to pytest: a contract test pins what is used of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_vlmlatency.report.gate_annotations import SourceLine
    from pytest_vlmlatency.report.gate_junit import JunitCase


class JunitUnavailable(Exception):
    """--junitxml was asked for, and this pytest's writer takes no reports; the message says why."""


class Writer(Protocol):
    """What is used of `_pytest.junitxml.LogXML`."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one report."""


def add_to_junit(
    config: pytest.Config, cases: Iterable[JunitCase], sources: Mapping[str, SourceLine]
) -> None:
    """Give the cases to pytest's writer, if --junitxml asked for one; else do nothing.

    To be called before the writer's own pytest_sessionfinish, which writes the file.
    """
    if config.getoption("xmlpath", None):
        writer = _writer(config)
        for case in cases:
            writer.pytest_runtest_logreport(_test_report(case, sources))


def _writer(config: pytest.Config) -> Writer:
    try:
        from _pytest.junitxml import xml_key  # noqa: PLC0415 - private, and only where asked for
    except ImportError as problem:
        raise JunitUnavailable(f"pytest {pytest.__version__} has no xml_key") from problem
    writer: Writer | None = config.stash.get(xml_key, None)
    if not callable(getattr(writer, "pytest_runtest_logreport", None)):
        raise JunitUnavailable(f"pytest {pytest.__version__} keeps no writer of JUnit XML")
    assert writer is not None, "None has no such method"
    return writer


def _test_report(case: JunitCase, sources: Mapping[str, SourceLine]) -> pytest.TestReport:
    source = sources.get(case.test or "")
    file = source.file if source else case.nodeid.partition("::")[0]
    line = source.line - 1 if source and source.line else None  # pytest counts from 0 here
    return pytest.TestReport(
        nodeid=case.nodeid,
        location=(file, line, case.nodeid.rpartition("::")[2]),
        keywords={},
        outcome="failed",
        longrepr=case.text,
        when="setup" if case.is_error else "call",
    )
