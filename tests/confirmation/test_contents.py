from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.confirmation.checkouts import open_checkouts
from pytest_vlmlatency.confirmation.worktrees import all_worktrees
from pytest_vlmlatency.errors import NotConfirmed
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"


@pytest.fixture
def with_submodule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a submodule, from a folder: git wants to be told that this is fine."""
    for name, value in {"COUNT": "1", "KEY_0": "protocol.file.allow", "VALUE_0": "always"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    repository(tmp_path / "words", {"words.txt": "first"})
    root = tmp_path / "project"
    repository(root, {"a.txt": "1"})
    git(root, "submodule", "--quiet", "add", str(tmp_path / "words"), "data/words")
    commit(root, {"a.txt": "2"})
    return root


def test_a_submodule_is_checked_out_at_its_commit_and_removed_again(with_submodule: Path) -> None:
    root = with_submodule
    commit(root / "data/words", {"words.txt": "second"})
    commit(root, {"a.txt": "3"})

    with open_checkouts(root, baseline="HEAD~1") as checkouts:
        text = (checkouts.baseline.root / "data/words/words.txt").read_text()

    assert text == "first"
    assert all_worktrees(root) == (root,)
    assert (root / "data/words/words.txt").read_text() == "second"


def test_a_submodule_that_the_user_never_fetched_is_left_out(with_submodule: Path) -> None:
    root = with_submodule
    git(root, "submodule", "--quiet", "deinit", "--force", "data/words")

    with open_checkouts(root, baseline="HEAD") as checkouts:
        has_words = (checkouts.baseline.root / "data/words/words.txt").exists()

    assert not has_words


def lfs_project(root: Path, *, smudge: str) -> None:
    """Make a repository with a large file; `smudge` stands in for git-lfs."""
    repository(root, {".gitattributes": ATTRIBUTES, "weights.bin": POINTER})
    git(root, "config", "filter.lfs.smudge", smudge)
    git(root, "config", "filter.lfs.clean", f"printf '{POINTER}'".replace("\n", "\\n"))
    commit(root, {"a.txt": "1"})
    write(root, {"weights.bin": "heavy"})


def test_large_files_come_through_the_repositorys_filter(tmp_path: Path) -> None:
    lfs_project(tmp_path, smudge="sed s/version.*/heavy/")

    with open_checkouts(tmp_path, baseline="HEAD~1") as checkouts:
        text = (checkouts.baseline.root / "weights.bin").read_text()

    assert text.startswith("heavy\n")


def test_large_files_that_stay_pointers_are_refused(tmp_path: Path) -> None:
    lfs_project(tmp_path, smudge="cat")

    with (
        pytest.raises(NotConfirmed, match=r"1 large files .* weights.bin first, are only pointers"),
        open_checkouts(tmp_path, baseline="HEAD~1"),
    ):
        pass


def test_pointers_that_the_user_has_as_such_are_left(tmp_path: Path) -> None:
    lfs_project(tmp_path, smudge="cat")
    write(tmp_path, {"weights.bin": POINTER})

    with open_checkouts(tmp_path, baseline="HEAD~1") as checkouts:
        text = (checkouts.baseline.root / "weights.bin").read_text()

    assert text == POINTER
