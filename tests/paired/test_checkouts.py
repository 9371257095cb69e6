from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.paired.checkouts import PREFIX, all_worktrees, default_paths, open_checkouts
from tests.projects import REPOSITORY, heed_interrupts
from tests.repositories import commit, git, repository, state_of, write

HOLDER = """\
import sys, time
from pathlib import Path
from pytest_vlmlatency.paired.checkouts import open_checkouts

with open_checkouts(Path(sys.argv[1]), baseline="HEAD") as checkouts:
    print(checkouts.baseline.root, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    repository(tmp_path / "project", {"src/a.py": "A = 1\n", "b.txt": "1"})
    commit(tmp_path / "project", {"src/a.py": "A = 2\n"})
    return tmp_path / "project"


def holder(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(root.parent)},
    )


def test_the_baseline_is_a_worktree_and_the_candidate_the_working_tree(root: Path) -> None:
    write(root, {"src/a.py": "A = 3\n"})

    with open_checkouts(root, baseline="HEAD~1") as checkouts:
        texts = [(side.root / "src/a.py").read_text() for side in (checkouts.baseline,)]
        candidate = checkouts.candidate
        folder = checkouts.baseline.root.parent

    assert texts == ["A = 1\n"]
    assert candidate.root == root
    assert candidate.paths == (root, root / "src")
    assert candidate.commit == git(root, "rev-parse", "HEAD")
    assert not folder.exists()
    assert all_worktrees(root) == (root,)


def test_both_are_worktrees_where_a_candidate_is_named(root: Path) -> None:
    with open_checkouts(root, baseline="HEAD", candidate="HEAD~1") as checkouts:
        sides = (checkouts.baseline, checkouts.candidate)
        texts = [(side.root / "src/a.py").read_text() for side in sides]

    assert texts == ["A = 2\n", "A = 1\n"]
    assert all_worktrees(root) == (root,)


def test_a_dirty_working_tree_is_left_as_it_is_to_the_times_of_its_files(root: Path) -> None:
    write(root, {"src/a.py": "A = 3\n", "b.txt": "2", "untracked.txt": "3"})
    git(root, "add", "b.txt")
    before = state_of(root)

    with open_checkouts(root, baseline="HEAD~1", setup="touch built"):
        within = state_of(root)

    assert within == before
    assert state_of(root) == before


def test_the_setup_command_runs_in_worktrees_and_knows_the_working_tree(root: Path) -> None:
    said: list[str] = []
    command = 'echo "$VLMLATENCY_WORKING_TREE" > built.txt'

    with open_checkouts(root, baseline="HEAD~1", setup=command, say=said.append) as checkouts:
        built = (checkouts.baseline.root / "built.txt").read_text()

    assert built == f"{root}\n"
    assert not (root / "built.txt").exists()
    assert said == [f"Setting up baseline: {command}"]


def test_a_setup_command_that_fails_shows_what_it_said_and_leaves_nothing(root: Path) -> None:
    command = "echo one; echo two >&2; exit 3"

    with (
        pytest.raises(NotConfirmed) as refusal,
        open_checkouts(root, baseline="HEAD~1", setup=command),
    ):
        pass

    assert str(refusal.value) == (
        f"--vlm-confirm-setup {command!r} ended with status 3 in the baseline's checkout; it "
        f"said:\none\ntwo"
    )
    assert all_worktrees(root) == (root,)


def test_a_setup_command_is_shown_without_passwords_and_without_the_way_to_the_users_home(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    said: list[str] = []
    command = "echo /home/somebody/x https://user:hunter2@host/simple?token=1; false"

    with (
        pytest.raises(NotConfirmed) as refused,
        open_checkouts(root, baseline="HEAD", setup=command, say=said.append),
    ):
        pass

    assert "hunter2" not in f"{refused.value} {said}"
    assert str(refused.value).endswith("it said:\n~/x https://host/simple")


@pytest.mark.parametrize(
    ("path", "problem"), [("lib", "there is no such folder in"), ("..", "is outside of the repos")]
)
def test_a_wrong_path_is_refused_before_anything_is_checked_out(
    root: Path, path: str, problem: str
) -> None:
    with (
        pytest.raises(UsageProblem, match=f"--vlm-confirm-path {path}.*{problem}"),
        open_checkouts(root, baseline="nowhere", paths=(path,)),
    ):
        pass


def test_code_is_looked_for_below_the_project_and_at_the_root(root: Path) -> None:
    write(root, {"python/src/a.py": ""})

    assert default_paths(root, root) == (".", "src")
    assert default_paths(root, root / "python") == ("python", "python/src", ".", "src")


def test_an_error_inside_removes_the_worktrees(root: Path) -> None:
    folders: list[Path] = []

    def fail() -> None:
        with open_checkouts(root, baseline="HEAD") as checkouts:
            folders.append(checkouts.baseline.root.parent)
            raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        fail()

    assert [folder.exists() for folder in folders] == [False]
    assert all_worktrees(root) == (root,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_interrupted_removes_its_worktrees(
    root: Path, number: signal.Signals
) -> None:
    with holder(root) as process:
        assert process.stdout is not None
        worktree = Path(process.stdout.readline().strip())
        was_there = (worktree / "src/a.py").is_file()
        process.send_signal(number)
        process.wait(timeout=180)

    assert was_there
    assert process.returncode != 0
    assert not worktree.parent.exists()
    assert all_worktrees(root) == (root,)


def test_what_a_killed_process_left_is_removed_by_the_next_and_nobody_elses(
    root: Path, tmp_path: Path
) -> None:
    git(root, "worktree", "add", "--quiet", "--detach", str(tmp_path / "own"), "HEAD")
    with holder(root) as killed, holder(root) as alive:
        assert killed.stdout is not None
        assert alive.stdout is not None
        left = Path(killed.stdout.readline().strip())
        other = Path(alive.stdout.readline().strip())
        killed.kill()
        killed.wait(timeout=180)
        was_left = left.exists()
        with open_checkouts(root, baseline="HEAD"):
            is_left, has_other = left.parent.exists(), (other / "src/a.py").exists()
        alive.kill()

    assert (was_left, is_left, has_other) == (True, False, True)
    listed = all_worktrees(root)
    assert left not in listed
    assert {root, tmp_path / "own", other} == set(listed)
    assert other.parent.name.startswith(PREFIX)


def test_hooks_of_the_repository_do_not_run(root: Path, tmp_path: Path) -> None:
    hook = root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    hook.chmod(0o755)

    with open_checkouts(root, baseline="HEAD"):
        pass

    assert not (tmp_path / "ran").exists()


def test_the_variables_of_a_hook_of_git_do_not_lead_astray(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path / "other", {"c.txt": ""})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))

    with open_checkouts(root, baseline="HEAD~1") as checkouts:
        text = (checkouts.baseline.root / "src/a.py").read_text()

    assert text == "A = 1\n"
