"""A fixed number of CPU threads on as many cores, while a model on the CPU is measured.

On a shared host one pinned thread varies least. Owns torch's thread count and the affinity of this
process's threads, and gives both back. torch's inter-op threads are left alone: their number cannot
be changed once they have run. Processes started meanwhile keep the cores they were born with.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = Path("/proc/self/task")


@contextmanager
def pinned_threads(n: int) -> Iterator[None]:
    """Let torch use `n` threads on the last `n` allowed cores; 0 leaves threads and cores alone.

    The last ones, because interrupts and other people's first processes tend to sit on the first.
    Cores are chosen on Linux only; elsewhere the thread count alone is set.
    """
    if n == 0:
        yield
        return
    n_cores = count_cores()
    if n > n_cores:
        raise UsageProblem(
            f"threads is {n}, but this process may use {n_cores} cores; "
            f"expected at most {n_cores}, or 0 to leave threads and cores as they are"
        )
    n_threads_before = torch.get_num_threads()
    with _pinned_to_last(n):
        try:
            torch.set_num_threads(n)
            yield
        finally:
            torch.set_num_threads(n_threads_before)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(allowed_cores()) if _HAS_AFFINITY else os.cpu_count() or 1


def allowed_cores() -> frozenset[int]:
    """Return the cores that the calling thread may run on; Linux only."""
    return frozenset(os.sched_getaffinity(0))


_HAS_AFFINITY = sys.platform == "linux"


@contextmanager
def _pinned_to_last(n: int) -> Iterator[None]:
    """Pin the calling thread, and for n > 1 torch's workers among the others, to the last n cores.

    A worker's name does not tell it from other threads, so then all are pinned. With one thread no
    worker computes, and the others are better off on other cores.
    """
    if not _HAS_AFFINITY:
        yield
        return
    own = allowed_cores()
    before = _affinities()
    cores = frozenset(sorted(own)[-n:])
    for thread in before if n > 1 else [threading.get_native_id()]:
        _confine(thread, cores)
    try:
        yield
    finally:
        # A thread born meanwhile inherited the pin: it gets what its maker has outside.
        for thread, current in _affinities().items():
            if current == cores:
                _confine(thread, before.get(thread, own))


def _affinities() -> dict[int, frozenset[int]]:
    found = {}
    for task in TASKS.iterdir():
        with suppress(ProcessLookupError):  # a thread that ended since it was listed
            found[int(task.name)] = frozenset(os.sched_getaffinity(int(task.name)))
    return found


def _confine(thread: int, cores: frozenset[int]) -> None:
    with suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)
