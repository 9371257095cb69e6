"""Processes that share a device: none runs a test while another one measures.

A turn (`turns`) keeps two measurements apart. A test beside a measurement disturbs it as well: its
fixtures load a model on the device that is measured, and its body computes there, or on the cores
that are. What a test touches can't be known, so each process shows, by a lock on a file, that it is
in a test, and by another one that it measures. A test begins once nobody measures on a device that
its process sees; a measurement begins once nobody else who sees the device is in a test. Tests that
measure nothing run side by side, and workers with a device of their own don't wait for each other.

Locks end with their process, however that ends, and hold between the runs of one user.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from pytest_vlmlatency.session.turns import MS_PER_S, POLL_S, turn_on
from pytest_vlmlatency.session.workers import CUDA, LEVEL_ZERO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Progress = Callable[[str], None] | None

ANY = "any"
"""What a process sees that no mask keeps from any device. Measuring on the CPU concerns all."""

TEST, MEASUREMENT = "test", "measurement"
PARENTS = "PYTEST_VLMLATENCY_PARENTS"
"""The variable that names, to processes which a test starts, those that wait for them to end."""


@contextmanager
def alone_on(places: Sequence[str], *, folder: Path, progress: Progress) -> Iterator[float]:
    """Hold the turn on every place while no other process that sees it is in a test.

    Yields how long that was waited for, in ms.
    """
    own = process_in(folder)
    share = ANY if "cpu" in places else own.share
    with (
        own.out_of_test(),
        turn_on(places, folder=folder, progress=progress) as turn_ms,
        own.measuring(share, progress) as tests_ms,
    ):
        yield turn_ms + tests_ms


@cache
def process_in(folder: Path) -> Process:
    """Return this process among those that keep their locks in a folder."""
    return Process(folder, share=share_of(os.environ))


def share_of(environ: Mapping[str, str]) -> str:
    """Return the devices that a process sees, as its masks name them."""
    masks = [environ[variable] for variable in (CUDA, LEVEL_ZERO) if environ.get(variable)]
    return ",".join(masks) or ANY


class Process:
    """One process, and what the others are to know of it: that it is in a test, or measures."""

    def __init__(self, folder: Path, *, share: str) -> None:
        self.share = share
        self._folder = folder
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._test = self._lock(TEST, share)
        self._n_tests = 0  # a test may run a pytest of its own in its process

    @contextmanager
    def in_test(self, progress: Progress) -> Iterator[None]:
        """Be in a test: it begins once nobody measures on a device that this process sees."""
        parents = os.environ.get(PARENTS)
        self._n_tests += 1
        if self._n_tests == 1:
            self._begin(progress)
        os.environ[PARENTS] = f"{parents},{self._name}" if parents else self._name
        try:
            yield
        finally:
            self._n_tests -= 1
            if self._n_tests == 0:
                _end(self._test)
            os.environ.pop(PARENTS, None)
            if parents is not None:
                os.environ[PARENTS] = parents

    @contextmanager
    def out_of_test(self) -> Iterator[None]:
        """Leave the test for a while: two that wait to measure would wait for one another's."""
        if not self._test.is_locked:
            yield
            return
        _end(self._test)
        try:
            yield
        finally:
            self._begin(None)

    @contextmanager
    def measuring(self, share: str, progress: Progress) -> Iterator[float]:
        """Measure on a share of the devices; yield how long tests there were waited for, in ms."""
        lock = self._lock(MEASUREMENT, share)
        lock.acquire(poll_interval=POLL_S)
        try:
            start_s = time.monotonic()
            busy = self._held(TEST, share)
            if busy and progress is not None:
                progress("waiting for tests of other processes on the same device")
            _wait_for(busy)
            yield (time.monotonic() - start_s) * MS_PER_S if busy else 0.0
        finally:
            _end(lock)

    def _begin(self, progress: Progress) -> None:
        """Show that a test begins; take that back, and wait, where somebody measures."""
        while True:
            self._test.acquire(poll_interval=POLL_S)
            busy = self._held(MEASUREMENT, self.share)
            if not busy:
                return
            _end(self._test)
            if progress is not None:
                progress("waiting for another measurement on the same device")
            _wait_for(busy)

    def _lock(self, kind: str, share: str) -> FileLock:
        name = f"{kind}@{quote(share, safe=',')}@{self._name}.lock"
        return FileLock(self._folder / name, thread_local=False)

    def _held(self, kind: str, share: str) -> list[FileLock]:
        """Return the locks of this kind that others hold, who may see one of these devices."""
        known = {self._name, *os.environ.get(PARENTS, "").split(",")}
        found = []
        for path in sorted(self._folder.glob(f"{kind}@*.lock")):
            _, others, name = path.name.removesuffix(".lock").split("@")
            if name in known or not may_meet(share, unquote(others)):
                continue
            lock = FileLock(path)
            try:
                with lock.acquire(timeout=0):
                    if not _is_alive(int(name.partition("-")[0])):
                        path.unlink(missing_ok=True)
            except Timeout:
                found.append(lock)
        return found


def may_meet(share: str, other: str) -> bool:
    """Whether two processes may see a device in common; a number and a name may be the same one."""
    if ANY in (share, other):
        return True
    one, two = set(share.split(",")), set(other.split(","))
    is_alike = {name.isdecimal() for name in one} == {name.isdecimal() for name in two}
    return not is_alike or not one.isdisjoint(two)


def _end(lock: FileLock) -> None:
    """Give a lock of this process's own back, and leave no file: nobody else takes it for good.

    One who holds the removed file for a moment, to see whether the lock was held, sees no less:
    whoever takes a lock looks at the others' after it, so that of two one sees the other.
    """
    lock.release()
    with suppress(OSError):  # Windows: another one is looking
        Path(lock.lock_file).unlink(missing_ok=True)


def _wait_for(busy: Sequence[FileLock]) -> None:
    for lock in busy:
        with lock.acquire(poll_interval=POLL_S):
            pass


def _is_alive(pid: int) -> bool:
    """Whether a process runs; taken for granted where asking would do something to it."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
