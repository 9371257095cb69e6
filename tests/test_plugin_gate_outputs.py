"""A real gate's outputs: JUnit XML, annotations and files of one run, with and without workers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

from tests.gated_projects import BENCHMARK, add_history, gated_project, slow_down
from tests.projects import in_subprocess
from tests.repositories import commit

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("--vlm-gate", "--vlm-no-confirm", "-p", "no:cacheprovider")
SLOWER = 10
GONE = f"""\
{BENCHMARK}

def test_gone():
    import shutil

    shutil.rmtree("out")
"""


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit, and ten runs of it in its history."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    in_subprocess(pytester, monkeypatch, "-p", "no:cacheprovider").assert_outcomes(passed=1)
    add_history(pytester.path, 10)
    (pytester.path / "out").mkdir()
    return pytester.path


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["one", "n2"])
def test_a_slower_phase_fails_everywhere_that_people_look(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    workers: tuple[str, ...],
) -> None:
    slow_down(root, vision_ms=0.2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(root / "out" / "summary.md"))
    files = ("--junit-xml=out/junit.xml", "--vlm-verdict=out/gate.json")

    result = in_subprocess(pytester, monkeypatch, *GATE, *files, *workers)

    assert result.ret == SLOWER
    (suite,) = ET.parse(root / "out" / "junit.xml").getroot()
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert "test_caption:vision" in failed
    assert "test_caption" not in failed
    verdict = json.loads((root / "out" / "gate.json").read_text(encoding="utf-8"))
    assert (verdict["status"], verdict["outcome"]) == (SLOWER, "slower")
    assert verdict["failing"][0]["phases"][0] == "vision"
    assert "**slower**" in (root / "out" / "summary.md").read_text(encoding="utf-8")
    commands = [line for line in result.stdout.lines if line.startswith("::error ")]
    assert len(commands) == 1
    assert commands[0].startswith("::error file=test_x.py,line=11,title=test_caption is slower%3A ")


def test_a_passing_gate_whose_report_cannot_be_written_fails_the_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"test_x.py": GONE})

    result = in_subprocess(pytester, monkeypatch, *GATE, "--vlm-markdown=out/gate.md")

    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        ["The gate passed.", "The gate's report: out/gate.md could not be written: *"]
    )
