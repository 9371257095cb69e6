"""How a run with --vlm-gate ends: every status, provoked through pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.history.store import open_store
from tests.gated_projects import BENCHMARK, add_history, gated_project, slow_down
from tests.projects import in_subprocess
from tests.repositories import commit, git, write

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("--vlm-gate", "-p", "no:cacheprovider")
ALONE = (*GATE, "--vlm-no-confirm")
SLOWER, UNDECIDED, NOT_APPLIED = 10, 11, 12
WITH_AND_WITHOUT_WORKERS = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["one", "n2"])


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit, and ten runs of it in its history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    add_history(pytester.path, 10)
    return pytester.path


@pytest.fixture
def bare_root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit and no history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    return pytester.path


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *args: str) -> pytest.RunResult:
    """Run pytest, in a process of its own where workers are asked for or it is to be stopped."""
    if {"-n1", "-n2", "-x", "--maxfail=1"} & set(args):
        return in_subprocess(pytester, monkeypatch, *args)
    return pytester.runpytest_inprocess(*args, no_reraise_ctrlc=True)


def test_an_unchanged_commit_passes(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
) -> None:
    slow_down(root)

    result = run(pytester, monkeypatch, *ALONE)

    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    assert "vlm gate" in result.stdout.str()


@WITH_AND_WITHOUT_WORKERS
def test_a_slower_phase_ends_the_run_with_10(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    workers: tuple[str, ...],
) -> None:
    slow_down(root, vision_ms=0.2)

    result = run(pytester, monkeypatch, *ALONE, "--vlm-verdict=gate.json", *workers)

    result.assert_outcomes(passed=1)
    assert result.ret == SLOWER
    assert 'this writes: vlmlatency accept gate.json --why "the reason"' in result.stdout.str()


def test_a_median_over_its_budget_ends_the_run_with_10(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    marked = BENCHMARK.replace(
        "def test_", '@pytest.mark.vlm_latency(budget_ms={"ttft": {"cpu": 20}})\ndef test_'
    )
    commit(root, {"test_x.py": marked})

    assert run(pytester, monkeypatch, *ALONE).ret == SLOWER


def test_an_undecided_phase_ends_a_strict_run_with_11(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    bare_root: Path,
) -> None:
    pytester.runpytest_inprocess("-p", "no:cacheprovider")
    slow_down(bare_root, vision_ms=0.03)

    assert run(pytester, monkeypatch, *ALONE).ret == pytest.ExitCode.OK
    assert run(pytester, monkeypatch, *ALONE, "--vlm-strict").ret == UNDECIDED


@WITH_AND_WITHOUT_WORKERS
def test_no_history_and_no_confirmation_end_the_run_with_12(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    bare_root: Path,
    workers: tuple[str, ...],
) -> None:
    slow_down(bare_root)

    result = run(pytester, monkeypatch, *ALONE, *workers)

    assert result.ret == NOT_APPLIED


def test_the_first_commit_has_nothing_before_it_and_passes_unless_strict(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bare_root: Path
) -> None:
    result = run(pytester, monkeypatch, *GATE)
    strict = run(pytester, monkeypatch, *GATE, "--vlm-strict")

    assert (result.ret, strict.ret) == (pytest.ExitCode.OK, NOT_APPLIED)
    for shown in (result.stdout.str(), strict.stdout.str()):
        assert "Nothing to compare with yet: HEAD (" in shown
        assert "is the first commit: nothing was before it" in shown


def test_a_budget_holds_for_the_first_commit_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bare_root: Path
) -> None:
    marked = BENCHMARK.replace(
        "def test_", '@pytest.mark.vlm_latency(budget_ms={"total": 1})\ndef test_'
    )
    write(bare_root, {"test_x.py": marked})
    git(bare_root, "commit", "--quiet", "--all", "--amend", "--no-edit")

    assert run(pytester, monkeypatch, *GATE).ret == SLOWER


def test_the_commit_that_brings_the_first_tests_passes_without_confirmation_unless_strict(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bare_root: Path
) -> None:
    git(bare_root, "rm", "--quiet", "test_x.py")
    git(bare_root, "commit", "--quiet", "--amend", "--no-edit")
    commit(bare_root, {"test_x.py": BENCHMARK})

    result = run(pytester, monkeypatch, *ALONE, "--vlm-history=first")
    strict = run(pytester, monkeypatch, *ALONE, "--vlm-history=second", "--vlm-strict")

    assert (result.ret, strict.ret) == (pytest.ExitCode.OK, NOT_APPLIED)
    assert "there is no stored run, and none of these tests in " in result.stdout.str()


def test_no_repository_at_all_ends_with_12(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, bare_root: Path
) -> None:
    (bare_root / ".git").rename(bare_root / "moved")

    result = run(pytester, monkeypatch, *GATE)

    assert result.ret == NOT_APPLIED
    assert "no commit in a git repository" in result.stdout.str()


def test_a_gate_beside_a_disabled_benchmark_ends_with_12(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
) -> None:
    result = run(pytester, monkeypatch, *GATE, "--benchmark-disable")

    result.assert_outcomes(passed=1)
    assert result.ret == NOT_APPLIED
    assert "measuring is off (--benchmark-disable), and a gate needs a measurement" in (
        result.stdout.str()
    )


def test_a_gate_over_tests_that_measure_nothing_ends_with_12(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"test_x.py": "def test_other():\n    pass\n"})

    assert run(pytester, monkeypatch, *GATE).ret == NOT_APPLIED
    assert run(pytester, monkeypatch, *GATE, "-k", "nothing_at_all").ret == NOT_APPLIED


def test_cases_lost_with_their_worker_end_the_run_with_12(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    dies = "\n\ndef test_dies(vlm_latency):\n    import os\n\n    os._exit(9)\n"
    commit(root, {"test_x.py": BENCHMARK + dies})

    result = run(pytester, monkeypatch, *ALONE, "-n1")

    assert result.ret == NOT_APPLIED
    assert "lost with a worker: test_x.py::test_dies" in result.stdout.str()


def test_a_failed_test_ends_the_run_as_pytest_does_where_the_gate_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"test_x.py": BENCHMARK + "\n\ndef test_fails():\n    assert False\n"})

    result = run(pytester, monkeypatch, *ALONE)

    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_slower_phase_beside_a_failed_test_ends_the_run_with_10(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {"test_x.py": BENCHMARK + "\n\ndef test_fails():\n    assert False\n"})
    slow_down(root, vision_ms=0.2)

    assert run(pytester, monkeypatch, *ALONE).ret == SLOWER


@WITH_AND_WITHOUT_WORKERS
def test_a_run_that_is_stopped_judges_what_it_measured_and_ends_as_pytest_does(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    workers: tuple[str, ...],
) -> None:
    fails = "\n\ndef test_fails(vlm_latency):\n    assert False\n"
    later = BENCHMARK.partition("\n\n\n")[2].replace("test_caption", "test_later")
    commit(root, {"test_x.py": BENCHMARK + fails + "\n\n" + later})
    slow_down(root, vision_ms=0.2)

    result = run(pytester, monkeypatch, *ALONE, "-x", *workers)

    interrupted = pytest.ExitCode.INTERRUPTED if workers else pytest.ExitCode.TESTS_FAILED
    assert result.ret == interrupted
    assert "vlm gate FAILED: 1 slower" in result.stdout.str()
    assert (
        "The gate failed what was measured before the run was stopped (stopping after 1 failures), "
        "which ends with pytest's own exit status: slower, or over a budget."
    ) in result.stdout.str()


def test_tests_that_a_stopped_run_did_not_reach_are_listed_as_not_judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    fails = "\n\ndef test_fails(vlm_latency):\n    assert False\n\n\ndef test_other():\n    pass\n"
    later = BENCHMARK.partition("\n\n\n")[2].replace("test_caption", "test_later")
    commit(root, {"test_x.py": BENCHMARK + fails + "\n\n" + later})

    result = run(pytester, monkeypatch, *ALONE, "--maxfail=1")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "vlm gate passed: 1 not judged, 1 same" in result.stdout.str()
    assert "not judged, not reached before the run was stopped: test_later" in result.stdout.str()


def test_a_run_that_is_interrupted_ends_as_pytest_does_and_says_that_nothing_was_judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    interrupts = "\n\ndef test_ctrl_c():\n    raise KeyboardInterrupt\n"
    write(root, {"test_x.py": BENCHMARK + interrupts})
    interrupted = run(pytester, monkeypatch, *ALONE)

    assert interrupted.ret == pytest.ExitCode.INTERRUPTED
    said = "--vlm-gate: nothing was judged, since the run did not reach its end."
    assert said in interrupted.stdout.str()


def test_a_usage_error_ends_the_run_as_pytest_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    marked = BENCHMARK.replace("def test_", "@pytest.mark.vlm_latency(x=1)\ndef test_")
    write(root, {"test_x.py": marked})

    assert run(pytester, monkeypatch, *ALONE).ret == pytest.ExitCode.USAGE_ERROR


def test_an_internal_error_ends_the_run_as_pytest_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    broken = "\n\ndef pytest_runtestloop():\n    1 / 0\n"
    conftest = (root / "conftest.py").read_text() + broken
    write(root, {"conftest.py": conftest})

    assert run(pytester, monkeypatch, *ALONE).ret == pytest.ExitCode.INTERNAL_ERROR


def test_only_collecting_judges_nothing_and_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    result = run(pytester, monkeypatch, *GATE, "--collect-only")

    assert result.ret == pytest.ExitCode.OK


def test_uncommitted_changes_are_judged_against_runs_of_head(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    write(root, {"captioner.py": "SLOWER = {'vision_ms': 0.2}\n"})

    result = run(pytester, monkeypatch, *ALONE, "--vlm-verdict=gate.json")

    assert result.ret == SLOWER
    assert "before the uncommitted changes" in result.stdout.str()
    kept = max(open_store(root / ".vlm_latency").index().names)
    assert f"this writes: vlmlatency accept {kept.id} --why" in result.stdout.str()


def test_without_the_option_nothing_is_judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    slow_down(root, vision_ms=0.2)

    result = run(pytester, monkeypatch, "-p", "no:cacheprovider")

    assert result.ret == pytest.ExitCode.OK
    assert "vlm gate" not in result.stdout.str()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1", "git config --global --add safe.directory"),
        ("PATH", "/nowhere", "install git"),
    ],
    ids=["dubious", "missing"],
)
def test_git_that_does_not_answer_ends_with_12_and_the_run_is_no_baseline(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    bare_root: Path,
    variable: str,
    value: str,
    said: str,
) -> None:
    slow_down(bare_root)
    monkeypatch.setenv(variable, value)

    result = run(pytester, monkeypatch, *GATE)

    assert result.ret == NOT_APPLIED
    shown = " ".join(result.stdout.str().split())
    assert "Not applied: git " in shown
    assert said in shown
    assert "It becomes no baseline of later runs, since its commit is unknown: git " in shown
    (name,) = open_store(bare_root / ".vlm_latency").index().names
    assert name.commit is None
