"""What all tests share: one thread, light launches, and which tests are slow."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Before torch is imported here or in a process that a test launches. With more, as many workers
# as cores make each other's threads wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A launched pytest rewrites all of the plugin's modules, half a second, unless the first one has
# written them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SLOW = {
    "evidence/test_measured_records.py",
    "paired/test_own_code.py",
    "paired/test_pairs.py",
    "estimator/test_end_to_end.py",
    "gate/test_ab.py",
    "measure/test_compilation.py",
    "measure/test_quiet.py",
    "profiling/test_profile.py",
    "session/test_confirming.py",
    "session/test_gate_outputs.py",
    "test_plugin_confirmation.py",
    "test_plugin_discovery.py",
    "test_plugin_gate_confirmed.py",
    "test_cut_off.py",
    "test_fuzzed_files.py",
    "test_plugin_gate_new.py",
}
"""Files whose tests launch processes of two commits, compile, or train: minutes of a run."""
FAMILIES = ("llava", "qwen2_vl", "llama4", "mllama", "blip-2", "git", "florence2", "pix2struct")
"""One or two architectures of each place where vision runs; tests of the others are slow."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark what `make test` leaves to `make test-pinned`; start with what takes longest."""
    root = os.path.dirname(__file__)  # noqa: PTH120 - of thousands of items
    slow = {os.path.join(root, name) for name in SLOW}  # noqa: PTH118
    zoo = getattr(sys.modules.get("tests.zoo"), "ZOO", ())
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {}).values()
        families = [value for value in params if isinstance(value, str) and value in zoo]
        if str(item.path) in slow or any(family not in FAMILIES for family in families):
            item.add_marker(pytest.mark.slow)
    yield  # `-m` leaves out what is marked, and fixtures put what shares them together
    n_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = longest_first(items, slow, n_workers=n_workers)


def longest_first(items: list[pytest.Item], slow: set[str], *, n_workers: int) -> list[pytest.Item]:
    """Return the tests in a part for each worker, each with its share of the slow files first.

    `--dist worksteal` gives each worker one part and moves tests from the end of one to whoever has
    none left, so the last tests of a run are short ones.
    """
    files: dict[str, list[pytest.Item]] = {
        str(item.path): [] for item in items if str(item.path) in slow
    }
    others: list[pytest.Item] = []
    for item in items:
        files.get(str(item.path), others).append(item)
    ordered: list[pytest.Item] = []
    for number in range(n_workers):
        share = [item for file in list(files)[number::n_workers] for item in files[file]]
        n_others = max(0, len(items) // n_workers - len(share))
        ordered += share + others[:n_others]
        del others[:n_others]
    return ordered + others


@contextmanager
def _no_turn(_devices: object, *, progress: object) -> Iterator[float]:
    yield 0.0


@pytest.fixture(autouse=True)
def _measured_beside_other_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no measurement of a test's own process wait for another worker's: none asserts times."""
    for name in ("pytest_vlmlatency.measure.run", "pytest_vlmlatency.measure.single"):
        if name in sys.modules:
            monkeypatch.setattr(sys.modules[name], "alone_with", _no_turn)


@pytest.fixture(autouse=True)
def _launched_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pytest that a test launches pass by hypothesis's plugin: a second of each."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
