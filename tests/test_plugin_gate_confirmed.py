"""--vlm-gate whole: two real commits of a model, fresh processes of both, the real engine.

The clock is moved by the model's code, with noise drawn from seeds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

# pytester forgets what a run in it imported, and torch cannot be imported twice in a process.
import tests.hand_moved  # noqa: F401
from tests.gated_projects import gated_project
from tests.hand_moved_projects import FILES, SLOWER
from tests.projects import in_subprocess
from tests.repositories import commit, git

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("--vlm-gate", "--vlm-verdict=verdict.json", "-p", "no:cacheprovider")
GATE_FAILED, NOT_APPLIED = 10, 12
UNCHANGED = dict.fromkeys(("vision", "prefill", "decode", "total"), "same")


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit and no history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds", files=FILES)
    return pytester.path


def verdicts(root: Path) -> dict[str, str]:
    """Return the verdict on each phase, as the file for programs has them."""
    (case,) = json.loads((root / "verdict.json").read_text())["report"]["cases"]
    return {phase["phase"]: phase["judgement"]["verdict"] for phase in case["phases"]}


def test_a_phase_that_is_5_percent_slower_is_found_in_that_phase_alone_without_a_history(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    before = git(root, "rev-parse", "HEAD")
    commit(root, {"src/own/__init__.py": SLOWER})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    result.assert_outcomes(passed=1)
    assert result.ret == GATE_FAILED
    assert verdicts(root) == {**UNCHANGED, "decode": "slower"}
    assert before[:9] in result.stdout.str()
    assert git(root, "worktree", "list").count("\n") == 0


def test_an_unchanged_commit_raises_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"notes.txt": "a change"})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == pytest.ExitCode.OK
    assert verdicts(root) == UNCHANGED


def test_documentation_alone_passes_without_fresh_processes_where_that_is_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"docs/model.md": "# A model"})

    result = in_subprocess(pytester, monkeypatch, *GATE, "--vlm-skip-unchanged")

    assert result.ret == pytest.ExitCode.OK
    assert verdicts(root) == UNCHANGED
    assert "only files changed that the tests do not read: docs/model.md" in result.stdout.str()
    assert "Confirming" not in result.stdout.str()


def test_code_that_is_slower_is_measured_beside_documentation_whatever_is_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"docs/model.md": "# A model", "src/own/__init__.py": SLOWER})

    result = in_subprocess(pytester, monkeypatch, *GATE, "--vlm-skip-unchanged")

    assert result.ret == GATE_FAILED


def test_work_that_the_benchmark_changed_is_measured_on_both_commits(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    in_subprocess(pytester, monkeypatch, "-p", "no:cacheprovider").assert_outcomes(passed=1)
    shorter = FILES["benchmarks/test_x.py"].replace("**ASKED)", "**ASKED, max_new_tokens=4)")
    commit(root, {"benchmarks/test_x.py": shorter})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == pytest.ExitCode.OK
    assert verdicts(root) == UNCHANGED
    assert "Confirmed with 3 pairs of fresh processes" in result.stdout.str()


def test_work_that_the_code_changed_is_not_judged_and_what_differs_is_said(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    calls = "vlm_latency.pedantic(own.caption, kwargs=ASKED, model=own.model)"
    benchmark = (
        FILES["benchmarks/test_x.py"]
        .replace("from own import model", "import own")
        .replace("vlm_latency(model.generate, **ASKED)", calls)
    )
    caption = "\n\ndef caption(**inputs):\n    return model.generate(**inputs, max_new_tokens={})\n"
    before, after = (FILES["src/own/__init__.py"] + caption.format(most) for most in (8, 4))
    commit(root, {"src/own/__init__.py": before, "benchmarks/test_x.py": benchmark})
    commit(root, {"src/own/__init__.py": after})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == NOT_APPLIED
    (case,) = json.loads((root / "verdict.json").read_text())["report"]["cases"]
    assert case["reason"] == (
        "both commits do different work: output tokens: 8, then 4; generation setting "
        "max_new_tokens: 8, then 4"
    )
