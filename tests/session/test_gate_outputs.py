"""Where a gate's report goes: what pytest's own outputs hold of it, with and without workers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.report.gate_markdown import gate_markdown
from pytest_vlmlatency.report.gate_verdict import verdict_json
from pytest_vlmlatency.session.gate_outputs import SUMMARY_BYTES
from tests.gate_reports import OVER_BUDGET, SAME, SLOWER, UNAPPLIED, a_report
from tests.projects import in_subprocess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPORT = a_report([SLOWER, OVER_BUDGET, SAME])

GATED = """\
import pytest

from pytest_vlmlatency.session import gate_outputs
from tests.session.test_gate_outputs import REPORT

SOURCES = {}


def pytest_runtest_logreport(report):
    SOURCES[report.nodeid] = gate_outputs.source_of(report)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        config = session.config
        config.written = gate_outputs.write_outputs(config, REPORT, SOURCES)


def pytest_terminal_summary(terminalreporter):
    written = terminalreporter.config.written
    gate_outputs.print_gate(terminalreporter, REPORT, written, SOURCES)
"""

WITH_FILES = """\


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    from pathlib import Path

    config.option.vlm_markdown = Path("{markdown}")
    config.option.vlm_verdict = Path("gate.json")
"""

TESTS = """\
import pytest


@pytest.mark.parametrize("size", [512])
def test_caption(size):
    pass


def test_page():
    pass
"""

HIDING = """\
import _pytest.junitxml


def pytest_runtestloop():
    del _pytest.junitxml.xml_key
"""


@pytest.fixture(autouse=True)
def outside_github(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def gated(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return a project whose gate always ends with REPORT."""
    pytester.makeconftest(GATED)
    pytester.mkdir("benchmarks").joinpath("test_caption.py").write_text(TESTS, encoding="utf-8")
    return pytester


@pytest.fixture
def on_github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the run be a step of GitHub Actions; return the file of its summary."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_slower_phase_is_a_failed_test_case_of_pytests_own_junit_xml(
    gated: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    """The contract with pytest's private writer: counts, names, places, texts."""
    result = in_subprocess(gated, monkeypatch, "--junit-xml=junit.xml", *workers)

    result.assert_outcomes(passed=2)
    (suite,) = ET.parse(gated.path / "junit.xml").getroot()
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "3", "errors": "0", "skipped": "0"}
    failed = {case.get("name"): case.find("failure") for case in suite if len(case)}
    assert list(failed) == [
        "test_caption:vision[512]",
        "test_caption:total[512]",
        "test_page:ttft-budget",
    ]
    vision = failed["test_caption:vision[512]"]
    assert vision is not None
    assert str(vision.get("message")).startswith("vision is slower: +48.1 % [46.0, 50.2], 5 pairs")
    assert "total +41 ms: vision +39, prefill +1, decode +1" in str(vision.text)
    assert {case.get("classname") for case in suite} == {"benchmarks.test_caption"}


def test_the_place_of_the_test_is_in_the_older_family_of_junit_xml(gated: pytest.Pytester) -> None:
    gated.runpytest_inprocess("--junit-xml=junit.xml", "-o", "junit_family=xunit1")

    cases = ET.parse(gated.path / "junit.xml").getroot()[0]
    places = {str(case.get("name")): (case.get("file"), case.get("line")) for case in cases}
    assert places["test_caption:vision[512]"] == places["test_caption[512]"]
    assert places["test_page:ttft-budget"] == ("benchmarks/test_caption.py", "8")


def test_what_was_not_applied_is_an_error_in_junit_xml(gated: pytest.Pytester) -> None:
    gated.makeconftest(GATED.replace("import REPORT", "import NOT_APPLIED as REPORT"))

    gated.runpytest_inprocess("--junit-xml=junit.xml")

    (suite,) = ET.parse(gated.path / "junit.xml").getroot()
    errors = [(case.get("classname"), case.get("name")) for case in suite if len(case)]
    assert suite.get("errors") == "2"
    assert errors == [("benchmarks.test_caption", "test_lost:gate"), ("vlm-gate", "applied")]


NOT_APPLIED = a_report([UNAPPLIED], not_applied_because=("no run of this machine",))


def test_a_pytest_without_a_way_into_its_junit_xml_fails_the_output_by_name(
    gated: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.makepyfile(hiding=HIDING)

    result = in_subprocess(gated, monkeypatch, "--junit-xml=junit.xml", "-p", "hiding")

    told = "*--junitxml does not have what the gate found: pytest * has no xml_key"
    result.stdout.fnmatch_lines([told])


def test_both_files_are_written_and_told(gated: pytest.Pytester) -> None:
    gated.makeconftest(GATED + WITH_FILES.format(markdown="gate.md"))

    result = gated.runpytest_inprocess()

    assert (gated.path / "gate.md").read_text(encoding="utf-8") == gate_markdown(REPORT)
    assert (gated.path / "gate.json").read_text(encoding="utf-8") == verdict_json(REPORT)
    assert json.loads((gated.path / "gate.json").read_text(encoding="utf-8"))["status"] == 10
    result.stdout.fnmatch_lines(
        ["Wrote the gate's report to gate.md.", "Wrote the gate's report to gate.json."]
    )


def test_a_file_that_cannot_be_written_is_a_problem_and_the_others_are_written(
    gated: pytest.Pytester,
) -> None:
    gated.makeconftest(GATED + WITH_FILES.format(markdown="gone/gate.md"))

    result = gated.runpytest_inprocess()

    result.stdout.fnmatch_lines(
        ["The gate's report: gone/gate.md could not be written: there is no folder gone; *"]
    )
    assert (gated.path / "gate.json").exists()


@pytest.mark.parametrize("option", ["--vlm-markdown", "--vlm-verdict"])
def test_a_report_of_no_gate_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    result = in_subprocess(pytester, monkeypatch, f"{option}=gate.out")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{option} writes a gate's report: it needs --vlm-gate"])


def test_in_github_actions_the_report_is_appended_to_the_summary_and_annotates_the_tests(
    gated: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, on_github: Path
) -> None:
    on_github.write_text("# Before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(gated.path.parent))

    result = gated.runpytest_inprocess()

    assert on_github.read_text(encoding="utf-8") == "# Before\n" + gate_markdown(REPORT)
    file = f"{gated.path.name}/benchmarks/test_caption.py"
    commands = [line for line in result.stdout.lines if line.startswith("::")]
    assert [command.split(",title=")[0] for command in commands] == [
        f"::error file={file},line=4",
        f"::error file={file},line=9",
    ]


def test_the_summary_never_outgrows_what_github_keeps(
    gated: pytest.Pytester, on_github: Path
) -> None:
    on_github.write_bytes(b"x" * (SUMMARY_BYTES - 700))

    gated.runpytest_inprocess()

    assert SUMMARY_BYTES - 700 < on_github.stat().st_size <= SUMMARY_BYTES


@pytest.mark.parametrize(
    ("fill", "told"),
    [
        (lambda path: path.write_bytes(b"x" * SUMMARY_BYTES), "The step's summary is full: *"),
        (lambda path: path.mkdir(), "The gate's report could not be appended to *Is a directory*"),
    ],
)
def test_a_summary_that_takes_nothing_is_said(
    gated: pytest.Pytester,
    on_github: Path,
    fill: Callable[[Path], None],
    told: str,
) -> None:
    fill(on_github)

    result = gated.runpytest_inprocess()

    result.stdout.fnmatch_lines([told])


def test_outside_of_github_actions_nothing_is_annotated_or_appended(
    gated: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, on_github: Path
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "false")

    result = gated.runpytest_inprocess()

    result.stdout.no_fnmatch_line("::*")
    assert not on_github.exists()


def test_a_terminal_without_v_shows_the_section_with_its_title(gated: pytest.Pytester) -> None:
    result = gated.runpytest_inprocess()

    result.stdout.fnmatch_lines(
        [
            "*- vlm gate FAILED: 1 slower, 1 over budget, 1 same -*",
            "test_caption[[]512]  vision  slower*+48.1 % [[]46.0, 50.2], 5 pairs",
            "The gate failed with exit status 10: slower, or over a budget.",
        ]
    )
