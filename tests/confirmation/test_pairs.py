from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.confirmation.arguments import Invocation
from pytest_vlmlatency.confirmation.pairs import open_pairs
from tests.repositories import CAPTION, SMALL, commit, find_these_tests, git, repository

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_vlmlatency.confirmation.pairs import FreshPairs

    Open = Callable[..., AbstractContextManager[FreshPairs]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    find_these_tests(monkeypatch)
    repository(tmp_path / "project", SMALL)
    commit(tmp_path / "project", {"src/captioner/__init__.py": "NAME = 'second'\n"})
    return tmp_path / "project"


def opened(root: Path, said: list[str], **given: object) -> AbstractContextManager[FreshPairs]:
    invocation = Invocation(options=(), folder=root, rootdir=root, inifile=root / "pytest.ini")
    defaults = {"baseline": "HEAD~1", "invocation": invocation, "time_limit_s": 300.0}
    return open_pairs(root, say=said.append, **{**defaults, **given})  # type: ignore[arg-type]


def test_pairs_are_measured_in_fresh_processes_of_both_commits(root: Path) -> None:
    said: list[str] = []

    with opened(root, said) as source:
        first = source.extend_to(1, [CAPTION])
        both = source.extend_to(2, [CAPTION])
        confirmation = source.confirmation()

    first_commit, second_commit = git(root, "rev-parse", "HEAD~1", "HEAD").split()
    assert both[:1] == first
    assert [len(pair.baseline.cases) + len(pair.candidate.cases) for pair in both] == [2, 2]
    assert {pair.baseline.commit.id for pair in both if pair.baseline.commit} == {first_commit}
    assert {pair.candidate.commit.id for pair in both if pair.candidate.commit} == {second_commit}
    assert confirmation.n_pairs == 2
    assert confirmation.cut_short_because is None
    assert confirmation.imported["candidate"] == (
        f"captioner: 1 module of {root / 'src' / 'captioner'}",
    )
