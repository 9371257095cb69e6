"""A repository whose benchmark's times are drawn from seeds, with a history of runs of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

# As tests.projects does with its own engine: pytester forgets what a run in it imported, and numpy
# and scipy cannot be imported twice in a process.
import pytest_vlmlatency.gate.gate  # noqa: F401
import tests.noisy_engine  # noqa: F401
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.session import keeping
from tests.gate.runs import noisy_calls
from tests.repositories import commit, find_these_tests, repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pytest

    from pytest_vlmlatency.records import Run

BENCHMARK = """\
import captioner
import pytest
import torch


class Model(torch.nn.Module):
    def generate(self, **kwargs):
        return captioner.SLOWER


def test_caption(vlm_latency):
    vlm_latency(Model().generate)
"""

FILES: Mapping[str, str] = {
    "captioner.py": "SLOWER = {}\n",
    "conftest.py": """\
        import pytest


        @pytest.fixture(scope="session")
        def _vlm_engine():
            from tests.noisy_engine import NoisyEngine

            return NoisyEngine()
        """,
    "test_x.py": BENCHMARK,
    "pytest.ini": "[pytest]\npythonpath = .\n",
    ".gitignore": "__pycache__/\n.pytest_cache/\n*.xml\n",
}


def gated_project(
    root: Path, monkeypatch: pytest.MonkeyPatch, seeds: Path, *, files: Mapping[str, str] = FILES
) -> str:
    """Make a repository with one commit of the project; return the commit."""
    find_these_tests(monkeypatch)
    monkeypatch.setenv("VLM_TEST_SEEDS", str(seeds))
    for name in (keeping.GITHUB_EVENT, *keeping.NUMBERS):
        monkeypatch.delenv(name, raising=False)
    return repository(root, files)


def slow_down(root: Path, **slower: float) -> str:
    """Commit a change that makes phases slower by these shares; return the commit."""
    return commit(root, {"captioner.py": f"SLOWER = {slower}  # a change\n"})


def add_history(root: Path, n_runs: int) -> list[Run]:
    """Let the history have as many runs like the one in it, each of a seed of its own."""
    store = open_store(root / ".vlm_latency")
    (name,) = store.index().names
    first = store.read_whole(name)
    runs = [first, *_alike(first, range(1, n_runs))]
    for run in runs[1:]:
        store.write(run)
    return runs


def _alike(first: Run, numbers: Iterable[int]) -> list[Run]:
    begin = datetime.fromisoformat(first.started_at)
    return [
        replace(
            first,
            id=f"{number:016x}",
            started_at=(begin - timedelta(hours=number)).isoformat(),
            cases=tuple(
                replace(case, calls=tuple(noisy_calls(2000 + 31 * number + index)))
                for index, case in enumerate(first.cases)
            ),
        )
        for number in numbers
    ]
