"""`vlmlatency ab` on two commits of a model: the real engine, on a clock that the code moves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.cli import main
from pytest_vlmlatency.paired.checkouts import all_worktrees
from pytest_vlmlatency.paired.launch import Launch, Launched
from tests.gate.runs import a_noisy_case, a_run
from tests.hand_moved_projects import FILES, SLOWER
from tests.projects import heed_interrupts
from tests.repositories import commit, find_these_tests, git, repository, state_of, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    find_these_tests(monkeypatch)
    monkeypatch.setenv("VLM_TEST_SEEDS", str(tmp_path / "seeds"))
    repository(tmp_path / "project", FILES)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def ab(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    status = main(["ab", *args])
    out, err = capfd.readouterr()
    return status, out, err


def verdicts_in(file: Path) -> dict[str, str]:
    (case,) = json.loads(file.read_text())["report"]["cases"]
    return {phase["phase"]: phase["judgement"]["verdict"] for phase in case["phases"]}


def test_a_slower_decode_is_found_in_decode_alone(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commit(root, {"src/own/__init__.py": SLOWER})
    before = state_of(root)

    options = ("--verdict", str(root.parent / "verdict.json"), "--all")
    status, out, err = ab(capfd, "HEAD~1", "HEAD", *options, "--", "benchmarks", "-q")

    assert status == 10
    assert verdicts_in(root.parent / "verdict.json") == {
        "vision": "same",
        "prefill": "same",
        "decode": "slower",
        "total": "same",
    }
    assert out.startswith("vlm gate FAILED: 1 slower\n")
    assert "Imported by the baseline: own: 1 module of" in out
    assert err.startswith("Confirming 1 test with fresh pairs of processes: at most 10 min ")
    assert state_of(root) == before
    assert all_worktrees(root) == (root,)


def test_a_commit_is_the_same_as_itself(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--verdict", str(root.parent / "verdict.json"))
    status, out, _err = ab(capfd, "HEAD", "HEAD", *options, "--", "benchmarks")

    assert status == 0
    assert set(verdicts_in(root.parent / "verdict.json").values()) == {"same"}
    assert out.startswith("vlm gate passed: 1 same\n")


@pytest.mark.parametrize(
    ("args", "status", "problem"),
    [
        (("nowhere", "HEAD"), 12, "vlmlatency: not applied: there is no commit 'nowhere' in"),
        (("HEAD", "HEAD", "--confirm-path", "lib"), 2, "--vlm-confirm-path lib: there is no such"),
        (("HEAD", "HEAD", "--confirm-setup", "exit 3"), 12, "ended with status 3 in the baseline"),
        (("HEAD", "HEAD", "--confirm-time", "0"), 2, "--confirm-time 0: expected a number of"),
        (("HEAD", "HEAD", "--", "--no-such"), 2, "pytest does not understand '--no-such':"),
        (("HEAD", "HEAD", "--", "src"), 2, "no test that pytest collects with 'src' in"),
    ],
)
def test_what_cannot_be_compared_is_said_with_a_status_of_its_own(
    root: Path,
    capfd: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    status: int,
    problem: str,
) -> None:
    found, out, err = ab(capfd, *args)

    assert found == status
    assert problem in err
    assert out == ""
    assert all_worktrees(root) == (root,)


def test_a_test_that_only_the_second_commit_fails_is_not_applied(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    commit(root, {"src/own/__init__.py": "raise ImportError('gone')\n"})

    status, _out, err = ab(capfd, "HEAD~1", "HEAD", "--", "benchmarks")

    assert status == 12
    assert "the launch of the candidate" in err
    assert "test_caption: ImportError: gone" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_ends_its_launch_and_removes_its_checkouts(
    root: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "pytest_vlmlatency", "ab", "HEAD", "HEAD", "--", "benchmarks"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        worktrees = all_worktrees(root)
        process.send_signal(number)
        rest = process.stderr.read()
        process.wait(timeout=180)

    assert first.startswith("Confirming 1 test")
    assert len(worktrees) == 3
    assert rest == "vlmlatency: interrupted; the checkouts are removed\n"
    assert process.returncode == 130
    assert all_worktrees(root) == (root,)
    assert not worktrees[1].parent.exists()


def test_an_interrupted_comparison_judges_the_pairs_that_are_there(
    root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Launch] = []

    def launch_or_end(launch: Launch, *, timeout_s: float) -> Launched:
        launched.append(launch)
        if len(launched) > 6:
            signal.raise_signal(signal.SIGTERM)
        slower = {"decode_ms": 0.06 * (len(launched) % 2)}
        case = a_noisy_case(len(launched), n_rounds=5, slower=slower, test=launch.tests[0])
        return Launched(run=a_run(len(launched), [case]), failed={}, imported=())

    monkeypatch.setattr(Launch, "run", launch_or_end)
    options = ("--verdict", str(root.parent / "verdict.json"))

    status, out, err = ab(capfd, "HEAD", "HEAD", *options, "--", "benchmarks")

    assert status == 130
    assert verdicts_in(root.parent / "verdict.json")["decode"] == "undecided"
    assert verdicts_in(root.parent / "verdict.json")["vision"] == "same"
    assert out.startswith("vlm gate INTERRUPTED: 1 undecided\n")
    assert "Confirming ends early: SIGTERM in pair 4." in err
    assert all_worktrees(root) == (root,)


@pytest.mark.parametrize(
    ("files", "options"),
    [({}, ()), ({"docs/model.md": "# A model\n"}, ("--skip-unchanged",))],
    ids=["identical trees", "documentation, skipped"],
)
def test_commits_whose_code_is_the_same_pass_without_a_measurement(
    root: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    options: tuple[str, ...],
) -> None:
    monkeypatch.setattr(Launch, "run", lambda *_args, **_options: pytest.fail("launched"))
    write(root, files)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "A change")

    status, out, _err = ab(capfd, "HEAD~1", "HEAD", *options, "--", "benchmarks")

    assert status == 0
    assert out.startswith("vlm gate passed: 1 same\n")
    assert "Same without fresh pairs: " in out
