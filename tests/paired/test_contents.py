from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.checkouts import all_worktrees, open_checkouts
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"


FROM_A_FOLDER = ("-c", "protocol.file.allow=always")


@pytest.fixture
def with_submodule(tmp_path: Path) -> Path:
    """Make a repository with a submodule in a submodule, whose origins are gone."""
    repository(tmp_path / "letters", {"letters.txt": "a"})
    repository(tmp_path / "words", {"words.txt": "first"})
    git(tmp_path / "words", *FROM_A_FOLDER, "submodule", "add", str(tmp_path / "letters"), "of")
    commit(tmp_path / "words", {})
    root = tmp_path / "project"
    repository(root, {"a.txt": "1"})
    git(root, *FROM_A_FOLDER, "submodule", "add", str(tmp_path / "words"), "data/words")
    git(root, *FROM_A_FOLDER, "submodule", "update", "--init", "--recursive")
    commit(root, {"a.txt": "2"})
    (tmp_path / "words").rename(tmp_path / "gone")
    (tmp_path / "letters").rename(tmp_path / "gone too")
    return root


def test_a_submodule_comes_at_its_commit_from_the_users_own_clone(with_submodule: Path) -> None:
    root = with_submodule
    commit(root / "data/words", {"words.txt": "second"})
    commit(root, {"a.txt": "3"})

    with open_checkouts(root, baseline="HEAD~1") as checkouts:
        baseline = checkouts.baseline.root
        text = (baseline / "data/words/words.txt").read_text()
        nested = (baseline / "data/words/of/letters.txt").read_text()
        status = git(baseline, "status", "--porcelain")

    assert (text, nested, status) == ("first", "a", "")
    assert all_worktrees(root) == (root,)
    assert (root / "data/words/words.txt").read_text() == "second"


def test_a_submodule_that_the_candidate_removed_comes_from_gits_own_folder(
    with_submodule: Path,
) -> None:
    root = with_submodule
    git(root, "rm", "--quiet", "data/words")
    commit(root, {"a.txt": "3"})

    with open_checkouts(root, baseline="HEAD~1") as checkouts:
        text = (checkouts.baseline.root / "data/words/words.txt").read_text()

    assert text == "first"


def test_a_commit_of_a_submodule_that_nobody_has_is_refused_by_name(with_submodule: Path) -> None:
    root = with_submodule
    absent = "1" * 40
    git(root, "update-index", "--cacheinfo", f"160000,{absent},data/words")
    git(root, "commit", "--quiet", "--message", "Not pushed")

    with (
        pytest.raises(NotConfirmed, match=f"the submodule words has no commit {absent} in "),
        open_checkouts(root, baseline="HEAD"),
    ):
        pass


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
