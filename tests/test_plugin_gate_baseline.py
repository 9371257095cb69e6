"""What a run with --vlm-gate compares with, through pytest, git and a history on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.history.store import open_store
from tests.gated_projects import BENCHMARK, add_history, gated_project, slow_down
from tests.repositories import commit, git, write

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.records import Run

QUIET = ("-p", "no:cacheprovider")
GATE = (*QUIET, "--vlm-gate", "--vlm-no-confirm")
SLOWER, NOT_APPLIED = 10, 12


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit and no history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    return pytester.path


def test_a_dirty_tree_never_becomes_a_baseline(pytester: pytest.Pytester, root: Path) -> None:
    write(root, {"captioner.py": "SLOWER = {}  # not committed\n"})
    kept = pytester.runpytest_inprocess(*QUIET)
    git(root, "checkout", "--quiet", "captioner.py")
    slow_down(root)

    result = pytester.runpytest_inprocess(*GATE)

    assert "Kept in .vlm_latency" in kept.stdout.str()
    assert result.ret == NOT_APPLIED


def test_a_pull_request_never_becomes_a_baseline(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    with monkeypatch.context() as pull_request:
        pull_request.setenv("GITHUB_EVENT_NAME", "pull_request")
        pytester.runpytest_inprocess(*QUIET)
    slow_down(root)

    assert pytester.runpytest_inprocess(*GATE).ret == NOT_APPLIED


def test_runs_of_another_machine_are_refused_and_what_differs_is_named(
    pytester: pytest.Pytester, root: Path
) -> None:
    pytester.runpytest_inprocess(*QUIET)
    _replace_machine(root, n_cores=96)
    slow_down(root)

    result = pytester.runpytest_inprocess(*GATE)

    assert result.ret == NOT_APPLIED
    assert "1 run of other machines is not compared with; the newest differs in cores: 96" in (
        result.stdout.str()
    )


def test_another_torch_is_judged_and_named(pytester: pytest.Pytester, root: Path) -> None:
    pytester.runpytest_inprocess(*QUIET)
    _replace_versions(root, torch="2.0.0")
    add_history(root, 10)
    slow_down(root)

    result = pytester.runpytest_inprocess(*GATE)

    assert result.ret == pytest.ExitCode.OK
    assert "Judged all the same: torch: 2.0.0, then " in result.stdout.str()


def test_a_pin_holds_the_baseline_where_a_rolling_one_would_have_moved_on(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    pytester.runpytest_inprocess(*QUIET)
    add_history(root, 4)
    monkeypatch.chdir(root)
    cli.main(["accept", "--why", "the release"])
    (pin,) = (root / ".vlm_accepted").iterdir()
    slow_down(root, vision_ms=0.1)
    measure(pytester, n_runs=4)
    slow_down(root, vision_ms=0.1001)

    pinned = pytester.runpytest_inprocess(*GATE)
    pin.unlink()
    rolling = pytester.runpytest_inprocess(*GATE)

    assert (pinned.ret, rolling.ret) == (SLOWER, pytest.ExitCode.OK)
    assert "the release" in pinned.stdout.str()


def test_a_renamed_test_is_not_new_for_want_of_stored_runs(
    pytester: pytest.Pytester, root: Path
) -> None:
    pytester.runpytest_inprocess(*QUIET)
    add_history(root, 10)
    commit(root, {"test_x.py": BENCHMARK.replace("test_caption", "test_headline")})

    result = pytester.runpytest_inprocess(*GATE)

    assert result.ret == NOT_APPLIED
    assert "no stored run of the baseline has this case" in result.stdout.str()
    assert "not measured in this run" in result.stdout.str()


def test_a_renamed_file_is_judged_against_the_runs_of_its_former_name(
    pytester: pytest.Pytester, root: Path
) -> None:
    pytester.runpytest_inprocess(*QUIET)
    add_history(root, 10)
    git(root, "mv", "test_x.py", "test_y.py")
    slow_down(root, vision_ms=0.2)

    result = pytester.runpytest_inprocess(*GATE)

    assert result.ret == SLOWER
    assert "not measured in this run" not in result.stdout.str()


def test_a_quarantine_past_its_day_does_not_fail_and_is_loud(
    pytester: pytest.Pytester, root: Path
) -> None:
    pytester.runpytest_inprocess(*QUIET)
    add_history(root, 10)
    marker = '@pytest.mark.vlm_latency(gate="report", why="a noisy node", until="2020-12-31")\n'
    commit(root, {"test_x.py": BENCHMARK.replace("def test_", f"{marker}def test_")})
    slow_down(root, vision_ms=0.2)

    result = pytester.runpytest_inprocess(*GATE)

    assert result.ret == pytest.ExitCode.OK
    assert "2020-12-31" in result.stdout.str()
    assert "a noisy node" in result.stdout.str()


def measure(pytester: pytest.Pytester, *, n_runs: int) -> None:
    """Run the project's benchmark, each time with other noise."""
    for _ in range(n_runs):
        pytester.runpytest_inprocess(*QUIET)


def _replace_machine(root: Path, **facts: int) -> None:
    """Let the one stored run be of another machine."""
    run = _taken(root)
    machine = {**run.environment.machine, **facts}
    environment = replace(run.environment, machine=machine)
    open_store(root / ".vlm_latency").write(replace(run, environment=environment))


def _replace_versions(root: Path, **versions: str) -> None:
    """Let the one stored run be of other software."""
    run = _taken(root)
    environment = replace(run.environment, versions={**run.environment.versions, **versions})
    open_store(root / ".vlm_latency").write(replace(run, environment=environment))


def _taken(root: Path) -> Run:
    """Take the one stored run out of the history."""
    store = open_store(root / ".vlm_latency")
    (name,) = store.index().names
    run = store.read_whole(name)
    (file,) = (root / ".vlm_latency" / "runs").iterdir()
    file.unlink()
    return run
