from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.paired.own_tests import former_name, renamed_files
from tests.repositories import commit, git, repository

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "".join(f"# line {number} of a file of tests\n" for number in range(20))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one commit of one file of tests."""
    repository(tmp_path / "project", {"tests/test_x.py": TEXT, "own.py": "NAME = 1\n"})
    return tmp_path / "project"


def test_a_file_that_was_renamed_and_changed_is_followed(root: Path) -> None:
    before = git(root, "rev-parse", "HEAD")
    git(root, "mv", "tests/test_x.py", "tests/test y.py")
    after = commit(root, {"tests/test y.py": TEXT + "# another line\n"})
    commit(root, {"own.py": "NAME = 2\n"})

    found = {"tests/test y.py": "tests/test_x.py"}
    assert renamed_files(root, before, after) == found
    assert renamed_files(root, before) == found


def test_a_file_that_was_moved_and_not_added_yet_is_followed_and_the_index_stays(
    root: Path,
) -> None:
    before = git(root, "rev-parse", "HEAD")
    (root / "tests/test_x.py").rename(root / "tests/test_y.py")
    status = git(root, "status", "--porcelain")

    assert renamed_files(root, before) == {"tests/test_y.py": "tests/test_x.py"}
    assert git(root, "status", "--porcelain") == status


@pytest.mark.parametrize("before", ["nowhere", "--output=gone", "0" * 40])
def test_nothing_is_known_of_what_is_no_commit_here(root: Path, before: str) -> None:
    assert renamed_files(root, before) == {}
    assert not (root / "gone").exists()


def test_a_test_of_a_renamed_file_keeps_its_names() -> None:
    renamed = {"b/test_y.py": "a/test_x.py"}

    assert former_name("b/test_y.py::TestX::test_y[a::b]", renamed) == (
        "a/test_x.py::TestX::test_y[a::b]"
    )
    assert former_name("c/test_z.py::test_z", renamed) == "c/test_z.py::test_z"
