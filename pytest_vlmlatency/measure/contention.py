"""How long the measured thread waited for a core.

Linux counts, for each thread, the time it was ready to run but did not (its run-queue wait), in
/proc/thread-self/schedstat. Worker threads of torch are not counted, only the thread that asks.
Elsewhere, and where the kernel does not count, the share is unknown.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pytest_vlmlatency.errors import InvalidMeasurement

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
