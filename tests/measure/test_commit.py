from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.machine.commit import read_commit, why_unknown
from pytest_vlmlatency.records import Commit

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """A git repository with one file, `model.py`, that reads nobody's configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.invalid")
        return subprocess.run(
            ["git", "-C", str(self.root), *identity, *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def commit(self, text: str) -> str:
        (self.root / "model.py").write_text(text)
        self.git("add", "model.py")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.delenv("GIT_INDEX_FILE", raising=False)
    return Repository(tmp_path)


def test_a_clean_checkout_is_its_commit(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")

    found = read_commit(repository.root)

    assert found == Commit(id=commit_id, branch="main", is_dirty=False)


def test_the_commit_is_found_from_a_folder_inside(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")
    inside = repository.root / "tests"
    inside.mkdir()

    assert read_commit(inside) == Commit(id=commit_id, branch="main", is_dirty=False)


def test_a_changed_tracked_file_makes_it_dirty(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")
    (repository.root / "model.py").write_text("a = 2")

    assert read_commit(repository.root) == Commit(id=commit_id, branch="main", is_dirty=True)


def test_a_staged_change_makes_it_dirty(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")
    (repository.root / "model.py").write_text("a = 2")
    repository.git("add", "model.py")

    assert read_commit(repository.root) == Commit(id=commit_id, branch="main", is_dirty=True)


def test_an_untracked_file_leaves_it_clean(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")
    (repository.root / "notes.txt").write_text("buy milk")

    assert read_commit(repository.root) == Commit(id=commit_id, branch="main", is_dirty=False)


def test_a_detached_checkout_has_no_branch(repository: Repository) -> None:
    commit_id = repository.commit("a = 1")
    repository.git("checkout", "--quiet", "--detach")

    assert read_commit(repository.root) == Commit(id=commit_id, branch=None, is_dirty=False)


def test_a_repository_before_its_first_commit_has_none(repository: Repository) -> None:
    assert read_commit(repository.root) is None


def test_a_folder_outside_every_repository_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert read_commit(tmp_path) is None


def test_without_git_there_is_none(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.commit("a = 1")
    monkeypatch.setenv("PATH", "")

    assert read_commit(repository.root) is None


def test_a_git_that_does_not_answer_leaves_it_unknown(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_arguments: object, timeout: float, **_options: object) -> object:
        raise subprocess.TimeoutExpired("git", timeout)

    repository.commit("a = 1")
    monkeypatch.setattr(subprocess, "run", hang)

    assert read_commit(repository.root) is None


def test_a_repository_of_another_user_is_named_with_gits_own_way_out(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("a = 1")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    assert read_commit(repository.root) is None
    assert "git config --global --add safe.directory" in why_unknown(repository.root)


def test_a_missing_git_is_named_where_there_is_a_repository(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("a = 1")
    monkeypatch.setenv("PATH", "/nowhere")

    assert read_commit(repository.root) is None
    assert "install git" in why_unknown(repository.root)


def test_no_repository_and_one_without_a_commit_are_no_problem_of_git(
    tmp_path: Path, repository: Repository
) -> None:
    assert why_unknown(repository.root) == ""
    assert why_unknown(tmp_path.parent) == ""
