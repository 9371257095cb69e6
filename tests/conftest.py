"""What all tests share: one thread, and light launches."""

from __future__ import annotations

import os

import pytest

# Before torch is imported here or in a process that a test launches. With more, as many workers
# as cores make each other's threads wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _launched_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pytest that a test launches pass by hypothesis's plugin: a second of each."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")
