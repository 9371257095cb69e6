from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.git import (
    commit_of,
    local_commit,
    remote_of,
    repository_of,
)
from tests.repositories import commit, git, repository

if TYPE_CHECKING:
    from pathlib import Path


def clone(origin: Path, path: Path, *options: str) -> Path:
    git(origin, "clone", "--quiet", *options, f"file://{origin}", str(path))
    return path


def three_commits(root: Path) -> list[str]:
    return [
        repository(root, {"a.txt": "1"}),
        commit(root, {"a.txt": "2"}),
        commit(root, {"a.txt": "3"}),
    ]


def test_a_ref_of_any_kind_means_its_commit(tmp_path: Path) -> None:
    first, second, third = three_commits(tmp_path)
    git(tmp_path, "tag", "--annotate", "--message", "One", "v1", first)
    said: list[str] = []

    found = [
        commit_of(tmp_path, ref, say=said.append) for ref in ("v1", "HEAD~1", "main", third[:9])
    ]

    assert found == [first, second, third, third]
    assert said == []


def test_a_commit_that_a_shallow_clone_lacks_is_fetched_alone(tmp_path: Path) -> None:
    _first, second, _third = three_commits(tmp_path / "origin")
    shallow = clone(tmp_path / "origin", tmp_path / "shallow", "--depth=1")
    said: list[str] = []

    found = commit_of(shallow, second, say=said.append)

    assert found == second
    assert git(shallow, "show", f"{second}:a.txt") == "2"
    assert git(shallow, "rev-list", "--count", second) == "1"
    assert said == [f"Fetching {second} from origin, with depth 1."]


def test_a_branch_of_the_remote_is_fetched_by_its_name(tmp_path: Path) -> None:
    first, *_later = three_commits(tmp_path / "origin")
    git(tmp_path / "origin", "branch", "release", first)
    shallow = clone(tmp_path / "origin", tmp_path / "shallow", "--depth=1")

    assert commit_of(shallow, "origin/release", say=print) == first


def test_a_full_clone_stays_full(tmp_path: Path) -> None:
    three_commits(tmp_path / "origin")
    full = clone(tmp_path / "origin", tmp_path / "full")
    fourth = commit(tmp_path / "origin", {"a.txt": "4"})

    assert commit_of(full, fourth, say=print) == fourth
    assert git(full, "rev-parse", "--is-shallow-repository") == "false"


def test_the_remote_of_the_branch_comes_before_origin(tmp_path: Path) -> None:
    three_commits(tmp_path / "origin")
    copy = clone(tmp_path / "origin", tmp_path / "copy")
    before = remote_of(copy)
    git(copy, "remote", "add", "upstream", f"file://{tmp_path / 'origin'}")
    git(copy, "config", "branch.main.remote", "upstream")

    assert (before, remote_of(copy)) == ("origin", "upstream")


def test_a_commit_that_nobody_has_is_refused_with_what_to_do(tmp_path: Path) -> None:
    three_commits(tmp_path / "origin")
    shallow = clone(tmp_path / "origin", tmp_path / "shallow", "--depth=1")

    with pytest.raises(NotConfirmed) as here:
        commit_of(tmp_path / "origin", "nowhere", say=print)
    with pytest.raises(NotConfirmed) as there:
        commit_of(shallow, "HEAD~1", say=print)

    assert str(here.value) == (
        f"there is no commit 'nowhere' in {tmp_path / 'origin'}, and no remote to fetch it from; "
        f"expected a branch, a tag or a commit that git rev-parse knows"
    )
    assert "there is no commit 'HEAD~1' in this shallow clone, and origin did not" in str(
        there.value
    )
    assert "fetch-depth: 0" in str(there.value)


@pytest.mark.parametrize(
    "ref",
    [
        "--all",
        "--output=here",
        "origin/--upload-pack=touch${IFS}here;false",
        "origin/-x",
        "origin/+main:main",
        "origin/^main",
    ],
)
def test_a_ref_that_git_could_take_for_an_order_is_refused_before_anything_is_fetched(
    tmp_path: Path, ref: str
) -> None:
    three_commits(tmp_path / "origin")
    copy = clone(tmp_path / "origin", tmp_path / "copy")
    told: list[str] = []

    with pytest.raises(NotConfirmed, match="is no "):
        commit_of(copy, ref, say=told.append)

    assert told == []
    assert not list(tmp_path.rglob("here"))


def test_a_ref_that_git_could_take_for_an_option_is_no_commit_even_where_it_is_one(
    tmp_path: Path,
) -> None:
    first = three_commits(tmp_path)[0]
    git(tmp_path, "update-ref", "refs/heads/-x", first)
    git(tmp_path, "update-ref", "refs/heads/feature/-x", first)

    assert local_commit(tmp_path, "-x") is None
    assert local_commit(tmp_path, "feature/-x") == first


def test_a_folder_outside_of_any_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConfirmed, match="is in no git repository"):
        repository_of(tmp_path)
