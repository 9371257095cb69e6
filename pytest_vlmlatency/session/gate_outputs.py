"""Where a gate's report goes: files, GitHub's summary, JUnit XML, the terminal.

Owns what was asked for and what becomes of an output that cannot be written: it is said, and fails
the run. What an output says is `report`'s.

What fails the gate, put into pytest's own JUnit XML.

pytest writes that file when it ends, from the reports that its writer was given. The writer is
given ours beside them: not by the hook, so that nothing else counts them as tests. The key of the
writer is private to pytest: a contract test pins what is used of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_vlmlatency.printing import print_line
from pytest_vlmlatency.report.gate_ci import SourceLine, annotation_lines, junit_cases
from pytest_vlmlatency.report.gate_markdown import gate_markdown, gate_markdown_within
from pytest_vlmlatency.report.gate_terminal import Tone, gate_lines
from pytest_vlmlatency.report.gate_verdict import verdict_json
from pytest_vlmlatency.report.gate_words import title_of
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_vlmlatency.records import GateReport
    from pytest_vlmlatency.report.gate_ci import JunitCase


SUMMARY_BYTES = 1024 * 1024
"""GitHub's limit for the summary of one step; it drops a larger one whole."""

MARKUP: Mapping[Tone, Mapping[str, bool]] = {
    Tone.PLAIN: {},
    Tone.BAD: {"red": True},
    Tone.WARNING: {"yellow": True},
    Tone.GOOD: {"green": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """What was asked for by options, and what GitHub Actions takes by itself.

    `workspace` is the folder that GitHub's annotations name files from.
    """

    markdown: Path | None
    verdict: Path | None
    step_summary: Path | None
    has_annotations: bool
    workspace: Path | None


@dataclass(frozen=True, slots=True)
class Written:
    """What to tell of the outputs; each of the problems fails the run."""

    said: tuple[str, ...]
    problems: tuple[str, ...]


def destinations_of(config: pytest.Config, environ: Mapping[str, str]) -> Destinations:
    """Return where a gate's report is to go."""
    is_on_github = environ.get("GITHUB_ACTIONS") == "true"
    summary = environ.get("GITHUB_STEP_SUMMARY") if is_on_github else None
    workspace = environ.get("GITHUB_WORKSPACE") if is_on_github else None
    return Destinations(
        markdown=config.getoption("vlm_markdown", None),
        verdict=config.getoption("vlm_verdict", None),
        step_summary=Path(summary) if summary else None,
        has_annotations=is_on_github,
        workspace=Path(workspace) if workspace else None,
    )


def source_of(report: pytest.TestReport) -> SourceLine:
    """Return where a test begins: its file from pytest's root on, and its line from 1 on."""
    file, line, _name = report.location
    return SourceLine(file, None if line is None else line + 1)


def write_outputs(
    config: pytest.Config, report: GateReport, sources: Mapping[str, SourceLine]
) -> Written:
    """Write every output but the terminal's; `sources` are the places of tests by their ids.

    To be called before pytest writes its JUnit XML (a pytest_sessionfinish with tryfirst). The
    step's summary was not asked for, so that one which cannot be written is only said.
    """
    to = destinations_of(config, os.environ)
    said: list[str] = []
    problems: list[str] = []
    for path, text_of in ((to.markdown, gate_markdown), (to.verdict, verdict_json)):
        if path is None:
            continue
        try:
            write_whole(path, text_of(report))
            said.append(f"Wrote the gate's report to {path}.")
        except OSError as problem:
            problems.append(f"The gate's report: {problem}")
    try:
        add_to_junit(config, junit_cases(report), sources)
    except JunitUnavailable as problem:
        problems.append(f"--junitxml does not have what the gate found: {problem}")
    if to.step_summary is not None:
        said.append(_append_to_summary(to.step_summary, report))
    return Written(tuple(said), tuple(problems))


def print_gate(
    reporter: pytest.TerminalReporter,
    report: GateReport,
    written: Written,
    sources: Mapping[str, SourceLine],
) -> None:
    """Print the gate's section, and in GitHub Actions its annotations."""
    width = reporter.config.get_terminal_writer().fullwidth if reporter.isatty else None
    is_verbose = reporter.config.get_verbosity() > 0
    reporter.write_sep("-", title_of(report), yellow=True)
    for line in gate_lines(report, width=width, is_verbose=is_verbose):
        print_line(reporter, line.text, **MARKUP[line.tone])
    for text in written.said:
        print_line(reporter, text)
    for text in written.problems:
        print_line(reporter, text, red=True)
    to = destinations_of(reporter.config, os.environ)
    if to.has_annotations:
        root = reporter.config.rootpath
        seen = {test: _from_workspace(source, root, to) for test, source in sources.items()}
        for command in annotation_lines(report, seen):
            reporter.write_line(command)


def _from_workspace(source: SourceLine, root: Path, to: Destinations) -> SourceLine:
    """Return a place as GitHub names it: pytest's root may lie deeper than the repository's."""
    if to.workspace is None:
        return source
    try:
        file = (root / source.file).resolve().relative_to(to.workspace.resolve())
    except ValueError:  # elsewhere: GitHub cannot show it
        return source
    return SourceLine(file.as_posix(), source.line)


def _append_to_summary(path: Path, report: GateReport) -> str:
    """Append as much as there is room for: other commands of the step write there too."""
    try:
        room = SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
        text = gate_markdown_within(report, n_bytes=room)
        if text is None:
            return "The step's summary is full: the gate's report was not appended to it."
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as problem:
        return f"The gate's report could not be appended to the step's summary: {problem}"
    return "Appended the gate's report to the step's summary."


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
