from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.arguments import Invocation
from pytest_vlmlatency.paired.pairs import open_pairs
from tests.projects import ends
from tests.repositories import (
    CAPTION,
    SMALL,
    commit,
    find_these_tests,
    git,
    repository,
    state_of,
    write,
)
from tests.warm_python import NEW_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_vlmlatency.paired.pairs import FreshPairs

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


def test_a_launch_leaves_no_trace_in_a_dirty_working_tree(root: Path) -> None:
    write(root, {"src/captioner/__init__.py": "NAME = 'third'\n", "benchmarks/notes.txt": "mine"})
    before = state_of(root)

    with opened(root, []) as source:
        pairs = source.extend_to(1, [CAPTION])

    assert len(pairs[0].candidate.cases) == 1
    assert pairs[0].candidate.commit is not None
    assert pairs[0].candidate.commit.is_dirty
    assert state_of(root) == before


@pytest.mark.parametrize("written", [("-p", "no:cacheprovider"), ("-pno:cacheprovider",)])
def test_a_project_without_a_cache_and_with_strict_settings_is_launched(
    root: Path, written: tuple[str, ...]
) -> None:
    """Without its plugin, pytest does not know the cache's setting, and strict, refuses it."""
    given = (*written, "--strict-config", "-W", "error")
    invocation = Invocation(options=given, folder=root, rootdir=root, inifile=root / "pytest.ini")

    with opened(root, [], invocation=invocation) as source:
        pairs = source.extend_to(1, [CAPTION])

    assert len(pairs[0].baseline.cases) == 1


def test_a_launch_that_crashes_shows_the_end_of_its_output(root: Path) -> None:
    write(root, {"benchmarks/conftest.py": "import os\nprint('on fire', flush=True)\nos._exit(7)"})

    with opened(root, []) as source, pytest.raises(NotConfirmed) as refusal:
        source.extend_to(1, [CAPTION])

    first = git(root, "rev-parse", "--short=10", "HEAD~1")
    assert str(refusal.value) == (
        f"the launch of the baseline ({first}) ended with status 7; the end of its output:\n"
        f"    on fire"
    )


def test_tests_that_cannot_run_on_the_baseline_are_told_with_the_reason(root: Path) -> None:
    files = {"benchmarks/test_y.py": "from captioner import NEWER\n\ndef test_newer(): pass\n"}
    write(root, files)

    with opened(root, []) as source, pytest.raises(NotConfirmed) as refusal:
        source.extend_to(1, ["benchmarks/test_y.py::test_newer"])

    assert "measured nothing; the end of its output:\n" in str(refusal.value)
    assert (
        str(refusal.value)
        .splitlines()[-1]
        .startswith("benchmarks/test_y.py::test_newer: ImportError: cannot import name 'NEWER'")
    )


def test_one_test_that_fails_takes_no_other_along(root: Path) -> None:
    newer = "\ndef test_newer(vlm_latency):\n    assert captioner.NAME == 'second'\n"
    text = (root / "benchmarks/test_x.py").read_text()
    write(root, {"benchmarks/test_x.py": text + newer + "    vlm_latency(Model().generate)\n"})

    with opened(root, []) as source:
        pairs = source.extend_to(1, [CAPTION, "benchmarks/test_x.py::test_newer"])
        failures = source.failures

    assert [len(run.cases) for run in pairs[0]] == [1, 2]
    assert [(failure.side, failure.test) for failure in failures] == [
        ("baseline", "benchmarks/test_x.py::test_newer")
    ]
    assert failures[0].reason.startswith("AssertionError: assert 'first' == 'second'")


def test_a_relative_model_folder_that_git_ignores_is_found_on_both_sides(root: Path) -> None:
    uses_it = """
        import json
        from pathlib import Path


        def test_model(vlm_latency, pytestconfig):
            folder = Path(pytestconfig.getoption("--vlm-model"))
            assert json.loads((folder / "config.json").read_text()) == {}
            vlm_latency(Model().generate)
        """
    benchmark = (root / "benchmarks/test_x.py").read_text() + dedent(uses_it)
    write(root, {"benchmarks/test_x.py": benchmark, ".gitignore": "models/\n__pycache__/\n"})
    write(root, {"models/tiny/config.json": "{}"})
    invocation = Invocation(
        options=("--vlm-model", "models/tiny"), folder=root, rootdir=root, inifile=None
    )

    with opened(root, [], invocation=invocation) as source:
        (pair,) = source.extend_to(1, ["benchmarks/test_x.py::test_model"])

    assert source.failures == ()
    assert [len(run.cases) for run in pair] == [1, 1]


def test_a_launch_that_the_time_ends_is_killed_with_its_children(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", NEW_PYTHON)
    sleeper = (
        f"import subprocess, sys\nchild = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\nchild.wait()\n"
    )
    write(root, {"benchmarks/conftest.py": sleeper})

    with opened(root, [], time_limit_s=25.0) as source:
        pairs = source.extend_to(1, [CAPTION])

    pid = int((tmp_path / "pid").read_text())
    assert pairs == ()
    assert source.cut_short_because is not None
    assert ends(pid)
