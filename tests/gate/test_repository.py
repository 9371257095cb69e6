from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.gate.repository import (
    NoLineage,
    NothingBefore,
    commit_that_brought,
    read_lineage,
)
from pytest_vlmlatency.paired.git import GitUnusable, root_around

if TYPE_CHECKING:
    from pathlib import Path


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A name", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with three commits on main."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    for message in ("first", "second", "third"):
        commit(root, message)
    return root


def history(root: Path, ref: str = "HEAD") -> tuple[str, ...]:
    return tuple(git(root, "rev-list", "--first-parent", ref).split())


def test_on_a_branch_the_baseline_is_where_it_left_the_default_branch(root: Path) -> None:
    main = history(root)
    git(root, "switch", "--quiet", "--create", "change")
    commit(root, "of the change")

    lineage = read_lineage(root, None, is_dirty=False)

    assert lineage.commits == main
    assert lineage.described == f"{main[0][:10]}, where HEAD left main"
    assert lineage.remarks == ()


def test_commits_that_main_got_meanwhile_are_no_baseline(root: Path) -> None:
    main = history(root)
    git(root, "switch", "--quiet", "--create", "change")
    commit(root, "of the change")
    git(root, "switch", "--quiet", "main")
    commit(root, "meanwhile")
    git(root, "switch", "--quiet", "change")

    assert read_lineage(root, None, is_dirty=False).commits == main


def test_on_the_default_branch_head_is_no_baseline_of_itself(root: Path) -> None:
    main = history(root)

    lineage = read_lineage(root, None, is_dirty=False)

    assert lineage.commits == main[1:]
    assert lineage.described == f"{main[1][:10]}, the commit before HEAD on main"


def test_head_is_the_baseline_of_uncommitted_changes(root: Path) -> None:
    main = history(root)

    lineage = read_lineage(root, None, is_dirty=True)

    assert lineage.commits == main
    assert lineage.described == f"HEAD ({main[0][:10]}), before the uncommitted changes"


def test_commits_of_a_merged_branch_are_no_first_parents(root: Path) -> None:
    main = history(root)
    git(root, "switch", "--quiet", "--create", "change", "HEAD~1")
    commit(root, "of the change")
    git(root, "switch", "--quiet", "main")
    git(root, "merge", "--quiet", "--no-ff", "--message", "merged", "change")

    assert read_lineage(root, None, is_dirty=False).commits == main


def test_a_named_ref_is_left_where_head_left_it(root: Path) -> None:
    main = history(root)

    lineage = read_lineage(root, "HEAD~2", is_dirty=False)

    assert lineage.commits == main[2:]


def test_the_default_branch_of_origin_comes_before_the_local_one(root: Path) -> None:
    clone = root.parent / "clone"
    git(root, "clone", "--quiet", str(root), str(clone))
    commit(clone, "not pushed")

    lineage = read_lineage(clone, None, is_dirty=False)

    assert lineage.commits == history(root)
    assert lineage.described.endswith("where HEAD left origin/main")


def test_a_ref_that_git_does_not_know_is_refused_by_name(root: Path) -> None:
    with pytest.raises(NoLineage, match="--vlm-baseline v9: there is no commit 'v9' in "):
        read_lineage(root, "v9", is_dirty=False)


def test_the_first_commit_has_nothing_before_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    commit(tmp_path, "first")

    with pytest.raises(NothingBefore, match="is the first commit: nothing was before it"):
        read_lineage(tmp_path, None, is_dirty=False)


def test_a_repository_without_any_commit_has_nothing_before_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")

    with pytest.raises(NothingBefore, match="has no commit yet"):
        read_lineage(tmp_path, None, is_dirty=False)


def test_without_a_repository_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoLineage, match="no commit in a git repository at"):
        read_lineage(tmp_path, None, is_dirty=False)
    assert root_around(tmp_path) is None


def test_a_repository_without_a_known_default_branch_asks_for_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk")
    commit(tmp_path, "first")
    commit(tmp_path, "second")

    with pytest.raises(NoLineage, match=r"no default branch here .* name one: --vlm-baseline REF"):
        read_lineage(tmp_path, None, is_dirty=False)


def test_a_shallow_clone_still_names_the_commit_before_head_and_says_that_it_is_shallow(
    root: Path,
) -> None:
    main = history(root)
    clone = root.parent / "clone"
    git(root, "clone", "--quiet", "--depth=1", f"file://{root}", str(clone))

    lineage = read_lineage(clone, None, is_dirty=False)

    assert lineage.commits[0] == main[1]
    assert "The clone is shallow: 1 commit before HEAD is known" in lineage.remarks


def shallow(root: Path, branch: str) -> Path:
    """Clone one commit of one branch, as CI does, with nothing that names another branch."""
    clone = root.parent / "shallow"
    git(root.parent, "init", "--quiet", "--initial-branch=checked", str(clone))
    git(clone, "remote", "add", "origin", f"file://{root}")
    git(clone, "fetch", "--quiet", "--depth=1", "origin", branch)
    git(clone, "switch", "--quiet", "--detach", "FETCH_HEAD")
    return clone


@pytest.mark.parametrize("ref", [None, "main", "origin/main"])
def test_a_shallow_clone_of_a_branch_fetches_the_baselines_branch(
    root: Path, ref: str | None
) -> None:
    main = history(root)
    git(root, "switch", "--quiet", "--create", "change")
    commit(root, "of the change")
    git(root, "switch", "--quiet", "main")
    said: list[str] = []

    lineage = read_lineage(shallow(root, "change"), ref, is_dirty=False, say=said.append)

    assert lineage.commits[0] == main[0]
    assert said == ["Fetching main from origin, with depth 1."]


def test_a_shallow_clone_of_a_merge_knows_its_baseline_by_the_merges_parents(root: Path) -> None:
    main = history(root)
    git(root, "switch", "--quiet", "--create", "change", "HEAD~1")
    commit(root, "of the change")
    git(root, "switch", "--quiet", "--create", "merged", "main")
    git(root, "merge", "--quiet", "--no-ff", "--message", "merged", "change")
    git(root, "switch", "--quiet", "main")

    lineage = read_lineage(shallow(root, "merged"), None, is_dirty=False)

    assert lineage.commits[0] == main[0]
    assert lineage.described == f"{main[0][:10]}, where HEAD left origin/main"


@pytest.mark.parametrize("ref", ["--upload-pack=touch gone", "main:refs/heads/written"])
def test_a_ref_that_is_an_order_to_git_is_refused(root: Path, ref: str) -> None:
    clone = shallow(root, "main")

    with pytest.raises(NoLineage):
        read_lineage(clone, ref, is_dirty=False)

    assert not (clone / "gone").exists()
    assert git(clone, "for-each-ref", "refs/heads") == ""


def test_a_git_that_does_not_answer_is_no_repository_without_commits(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    with pytest.raises(GitUnusable, match=r"git config --global --add safe\.directory"):
        root_around(root)


def test_the_commit_that_brought_a_text_is_known_in_a_whole_clone_alone(root: Path) -> None:
    for text in ("one", "one two", "one two three"):
        (root / "pins.json").write_text(text)
        git(root, "add", "pins.json")
        commit(root, text)
    brought = git(root, "rev-parse", "HEAD~1")

    assert commit_that_brought(root, root / "pins.json", "two") == brought
    assert commit_that_brought(root, root / "pins.json", "four") is None
    clone = shallow(root, "main")
    assert commit_that_brought(clone, clone / "pins.json", "two") is None


def test_where_the_merge_base_is_not_known_the_named_branch_itself_is_compared_with(
    root: Path,
) -> None:
    git(root, "switch", "--quiet", "--orphan", "other")
    commit(root, "another history")

    lineage = read_lineage(root, "main", is_dirty=False)

    assert lineage.commits == history(root, "main")
    assert "so main itself is compared with" in lineage.remarks[0]
