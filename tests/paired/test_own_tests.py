from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.paired import own_tests
from pytest_vlmlatency.paired.arguments import Invocation
from pytest_vlmlatency.paired.checkouts import Checkout, Side
from pytest_vlmlatency.paired.launch import Launch
from tests.repositories import commit, repository

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_file_of_a_submodule_is_there_if_the_submodules_commit_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path, {"a.txt": "1"})
    repository(tmp_path / "one", {"tests/test_x.py": "", "tests/test_later.py": ""})
    commit(tmp_path, {"a.txt": "2"})
    monkeypatch.setattr(own_tests, "_uncollected", lambda _launch, _tests: frozenset())
    side = Checkout(side=Side.BASELINE, root=tmp_path, commit="0", paths=(), is_worktree=True)
    launch = Launch(
        checkout=side,
        other=side,
        working_tree=tmp_path,
        invocation=Invocation(options=(), folder=tmp_path, rootdir=tmp_path, inifile=None),
        tests=("one/tests/test_x.py::test_a", "one/tests/test_y.py::test_a"),
        benchmark=frozenset(),
        scratch=tmp_path,
    )

    assert own_tests.tests_missing_in(launch) == {"one/tests/test_y.py::test_a"}
