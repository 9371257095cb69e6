"""The range of versions that was tested: what lies beyond it is a warning, once, and no error."""

from __future__ import annotations

import pytest
import yaml

import pytest_vlmlatency.models.load  # noqa: F401 - it cannot be imported again and again
from benchmarks.evidence._record import ROOT
from pytest_vlmlatency.versions import TESTED, installed_versions, range_in_words, untested_lines
from tests.projects import project, table_of

TWO_TESTS = """\
def test_one(vlm_latency):
    vlm_latency(model.generate)

def test_two(vlm_latency):
    vlm_latency(model.generate)
"""
FAILING = """\
def test_one(vlm_latency):
    raise AttributeError("renamed")
"""
WARNING = "Not tested with torch "


@pytest.fixture
def newer_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the installed torch be newer than any that was tested."""
    monkeypatch.setitem(TESTED, "torch", ((1, 0), (1, 13)))


def warnings_in(result: pytest.RunResult) -> list[str]:
    return [line for line in result.stdout.lines if line.startswith(WARNING)]


def test_the_installed_versions_are_tested_ones() -> None:
    """If `make test-newest` fails here alone, TESTED and the documents may be raised."""
    assert untested_lines(installed_versions()) == ()


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", "2.14.1", "2.14.9a0+gitabc"])
def test_a_tested_version_has_no_warning(version: str) -> None:
    assert untested_lines({"torch": version}) == ()


@pytest.mark.parametrize("version", ["2.15.0", "2.5.1", "3.0.0", "1.14", "a-build-of-mine"])
def test_a_version_beyond_either_end_has_a_warning_with_the_range(version: str) -> None:
    (line,) = untested_lines({"torch": version, "transformers": "5.24.0"})

    assert line.startswith(f"{WARNING}{version} (tested: 2.6 to 2.14)")


def test_a_run_with_an_untested_version_warns_once_and_passes(
    pytester: pytest.Pytester, newer_torch: None
) -> None:
    project(pytester, TWO_TESTS)

    result = pytester.runpytest_inprocess("-q", "-W", "error")

    result.assert_outcomes(passed=2)
    assert len(warnings_in(result)) == 1
    assert warnings_in(result)[0] in table_of(result)


def test_a_run_in_which_nothing_could_be_measured_warns_too(
    pytester: pytest.Pytester, newer_torch: None
) -> None:
    project(pytester, FAILING)

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    assert len(warnings_in(result)) == 1


def test_a_run_without_tests_that_measure_does_not_warn(
    pytester: pytest.Pytester, newer_torch: None
) -> None:
    pytester.makepyfile("def test_other():\n    pass\n")

    assert warnings_in(pytester.runpytest_inprocess()) == []


def test_a_run_with_tested_versions_does_not_warn(pytester: pytest.Pytester) -> None:
    project(pytester, TWO_TESTS)

    assert "Not tested with" not in pytester.runpytest_inprocess().stdout.str()


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/coverage.md"])
@pytest.mark.parametrize("package", TESTED)
def test_the_documents_state_the_range_in_words(document: str, package: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")

    assert f"| {package} | {range_in_words(package)} |" in text


def test_a_scheduled_workflow_tests_both_ends_every_week() -> None:
    source = (ROOT / ".github/workflows/versions.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(source)

    (schedule,) = workflow[True]["schedule"]  # YAML 1.1 reads the key `on` so
    steps = workflow["jobs"]["versions"]["steps"]
    assert schedule["cron"].split()[2:4] == ["*", "*"]  # each month, by the day of the week
    assert schedule["cron"].split()[4] in "0123456"
    assert workflow["jobs"]["versions"]["strategy"]["matrix"]["end"] == ["newest", "oldest"]
    assert steps[-1]["run"] == "make test-${{ matrix.end }}"
