"""What all tests share: one thread, light launches, and which tests are slow."""

from __future__ import annotations

import os
import sys

import pytest

# Before torch is imported here or in a process that a test launches. With more, as many workers
# as cores make each other's threads wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW = {
    "evidence/test_measured_records.py",
    "confirmation/test_own_code.py",
    "confirmation/test_pairs.py",
    "estimator/test_end_to_end.py",
    "judging/test_ab.py",
    "measure/test_compilation.py",
    "profiling/test_profile.py",
    "session/test_confirming.py",
    "session/test_gate_outputs.py",
    "test_plugin_confirmation.py",
    "test_plugin_discovery.py",
    "test_plugin_gate_confirmed.py",
    "test_plugin_gate_new.py",
}
"""Files whose tests launch processes of two commits, compile, or train: minutes of a run."""
FAMILIES = ("llava", "qwen2_vl", "llama4", "mllama", "blip-2", "git", "florence2", "pix2struct")
"""One or two architectures of each place where vision runs; tests of the others are slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` leaves to `make test-all`."""
    root = os.path.dirname(__file__)  # noqa: PTH120 - of thousands of items
    slow = {os.path.join(root, name) for name in SLOW}  # noqa: PTH118
    zoo = getattr(sys.modules.get("tests.zoo"), "ZOO", ())
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {}).values()
        families = [value for value in params if isinstance(value, str) and value in zoo]
        if str(item.path) in slow or any(family not in FAMILIES for family in families):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _launched_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pytest that a test launches pass by hypothesis's plugin: a second of each."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
