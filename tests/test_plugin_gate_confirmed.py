"""--vlm-gate whole: two real commits, fresh processes of both, noise from seeds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.gated_projects import gated_project, slow_down
from tests.projects import in_subprocess
from tests.repositories import git

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("--vlm-gate", "--vlm-verdict=verdict.json", "-p", "no:cacheprovider")
SLOWER, NOT_APPLIED = 10, 12
WITH_AND_WITHOUT_WORKERS = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["one", "n2"])


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit and no history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    return pytester.path


def phases_that_are(root: Path, verdict: str) -> list[str]:
    """Return the phases with a verdict, as the file for programs has them."""
    (case,) = json.loads((root / "verdict.json").read_text())["report"]["cases"]
    return [phase["phase"] for phase in case["phases"] if phase["judgement"]["verdict"] == verdict]


@WITH_AND_WITHOUT_WORKERS
def test_a_phase_that_is_5_percent_slower_is_found_in_that_phase_alone_without_a_history(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    workers: tuple[str, ...],
) -> None:
    before = git(root, "rev-parse", "HEAD")
    slow_down(root, vision_ms=0.05)

    result = in_subprocess(pytester, monkeypatch, *GATE, *workers)

    result.assert_outcomes(passed=1)
    assert result.ret == SLOWER
    assert phases_that_are(root, "slower") == ["vision"]
    assert before[:9] in result.stdout.str()
    assert git(root, "worktree", "list").count("\n") == 0


def test_an_unchanged_commit_raises_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    slow_down(root)

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == pytest.ExitCode.OK
    assert phases_that_are(root, "slower") == []
    assert "total" in phases_that_are(root, "same")
