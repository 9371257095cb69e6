"""A fixed number of CPU threads on as many cores, while a model on the CPU is measured.

On a shared host one pinned thread varies least. Owns torch's thread count and the affinity of this
process's threads, and gives both back. torch's inter-op threads are left alone: their number cannot
be changed once they have run. Processes started meanwhile keep the cores they were born with.

How long the measured thread waited for a core.

Linux counts, for each thread, the time it was ready to run but did not (its run-queue wait), in
/proc/thread-self/schedstat. Worker threads of torch are not counted, only the thread that asks.
Elsewhere, and where the kernel does not count, the share is unknown.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem

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


SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class RunQueue:
    """One reading: how long `thread` has waited since it began, and when that was read."""

    thread: int
    wait_ns: int
    wall_ns: int


class ContentionMeter:
    """Reads the run queue at both ends of an interval, outside the timed part."""

    def __init__(self, path: Path = SCHEDSTAT) -> None:
        self._path = path
        self._start: RunQueue | None = None

    def start(self) -> None:
        """Begin an interval."""
        wall_ns = time.perf_counter_ns()
        self._start = read_run_queue(self._path, wall_ns=wall_ns)

    def stop(self) -> float | None:
        """Return the share of wall time since `start` that this thread waited, None if unknown."""
        end = read_run_queue(self._path, wall_ns=None)
        return contended_ratio(self._start, end)


def contended_ratio(start: RunQueue | None, end: RunQueue | None) -> float | None:
    """Return the wait between two readings as a share of the wall time between them.

    None where either is missing, or where they are of two threads. From 0 (never waited) to 1.
    """
    if start is None or end is None or start.thread != end.thread:
        return None
    wait_ns = end.wait_ns - start.wait_ns
    between_ns = end.wall_ns - start.wall_ns
    if wait_ns < 0 or between_ns <= 0:
        raise InvalidMeasurement(
            f"the run-queue wait grew by {wait_ns} ns in {between_ns} ns; expected a wait of at "
            f"least 0 ns in more than 0 ns: a clock ran backwards"
        )
    return wait_ns / between_ns


def read_run_queue(path: Path = SCHEDSTAT, *, wall_ns: int | None = None) -> RunQueue | None:
    """Return this thread's run-queue wait, None where the kernel does not tell.

    `wall_ns` is the moment of the reading, by default just after it.
    """
    try:
        fields = path.read_text(encoding="ascii").split()
    except OSError:
        return None
    _cpu_ns, wait_ns, n_slices = (int(field) for field in fields)
    if n_slices == 0:  # a thread that reads has run: this kernel writes zeros
        return None
    if wall_ns is None:
        wall_ns = time.perf_counter_ns()
    return RunQueue(threading.get_native_id(), wait_ns, wall_ns)
