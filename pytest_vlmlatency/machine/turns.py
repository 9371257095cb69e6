"""Measured alone: whoever measures on a device holds its turn, and everyone else waits.

Two measurements side by side on one device, or on the CPU cores that one is pinned to, measure
each other. The turn is a lock on a file, so it also holds between the workers of a run and between
two runs of one user; it ends with the process that holds it. Other users' runs are not kept away.

A test beside a measurement disturbs it as well: its fixtures load a model, its body computes. So
each process shows by a lock on a file that it is in a test, and by another that it measures. A
test begins once nobody measures on a device that its process sees; a measurement begins once
nobody else who sees the device is in a test. Tests that measure nothing run side by side, and
workers with a device of their own don't wait.

`choose_device` gives each pytest-xdist worker a device before anything imports torch: worker gwK
sees device K modulo the number of devices. Devices are counted without torch, which would fix the
choice by looking. Where nothing can be counted, or there is one device only, workers see the same
and take turns.
"""

from __future__ import annotations

import getpass
import os
import secrets
import stat
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

    import torch
    from filelock import FileLock

    Progress = Callable[[str], None] | None


POLL_S = 0.1  # a waiting process wakes ten times a second: nothing beside what it waits for
MS_PER_S = 1000
FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@contextmanager
def turn_on(
    places: Sequence[str], *, folder: Path, progress: Callable[[str], None] | None
) -> Iterator[float]:
    """Hold the turn on every place; yield how long that was waited for, in ms.

    Places are taken in the order of their names, so that two that want the same never wait for
    each other.
    """
    from filelock import FileLock  # noqa: PLC0415 - collecting needs no lock

    waited_ms = 0.0
    with ExitStack() as held:
        for place in sorted(places):
            lock = FileLock(folder / f"{place}.lock")
            waited_ms += _acquire(lock, place, progress)
            held.callback(lock.release)
        yield waited_ms


def turns_folder() -> Path:
    """Return this user's folder of turns in the temporary directory, made if it is missing.

    UsageProblem where another user made it, or it is a link: whoever owns it decides what a lock
    in it is. Others can neither list it nor write into it.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"vlmlatency-{user}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if hasattr(os, "getuid"):  # elsewhere, each user has a temporary directory of his own
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise UsageProblem(
                f"{folder} is not a folder of this user, so the locks of measurements cannot be in "
                f"it; remove it, or set TMPDIR to a folder of your own"
            )
        if found.st_mode & FOR_OTHERS:
            folder.chmod(0o700)
    return folder


def _acquire(lock: FileLock, place: str, progress: Callable[[str], None] | None) -> float:
    from filelock import Timeout  # noqa: PLC0415 - as above

    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress is not None:
            progress(f"waiting for another measurement on {place}")
        start_s = time.monotonic()
        lock.acquire(poll_interval=POLL_S)
        return (time.monotonic() - start_s) * MS_PER_S
    return 0.0


ANY = "any"
"""What a process sees that no mask keeps from any device. Measuring on the CPU concerns all."""

TEST, MEASUREMENT = "test", "measurement"
PARENTS = "PYTEST_VLMLATENCY_PARENTS"
"""The variable that names, to processes which a test starts, those that wait for them to end."""


@contextmanager
def alone_with(devices: Sequence[torch.device], *, progress: Progress) -> Iterator[float]:
    """Measure on these devices while no other process of this user measures or tests there.

    Yields how long that was waited for, in ms: 0 inside another measurement of this process.
    """
    with alone_on(
        sorted({place_of(device) for device in devices}), folder=turns_folder(), progress=progress
    ) as waited_ms:
        yield waited_ms


@contextmanager
def alone_on(places: Sequence[str], *, folder: Path, progress: Progress) -> Iterator[float]:
    """Hold the turn on every place while no other process that sees it is in a test.

    Yields how long that was waited for, in ms.
    """
    own = process_in(folder)
    if own.places.issuperset(places):
        yield 0.0
        return
    share = ANY if "cpu" in places else own.share
    with (
        own.out_of_test(),
        turn_on(places, folder=folder, progress=progress) as turn_ms,
        own.measuring(share, progress) as tests_ms,
    ):
        before = own.places
        own.places = before | set(places)
        try:
            yield turn_ms + tests_ms
        finally:
            own.places = before


def place_of(device: torch.device) -> str:
    """Name a device so that processes which see it under different numbers agree."""
    import torch  # noqa: PLC0415 - collecting imports no torch

    if device.type == "cpu":
        return "cpu"
    describe = getattr(torch.get_device_module(device.type), "get_device_properties", None)
    uuid = None if describe is None else getattr(describe(device), "uuid", None)
    return f"{device.type}-{uuid or device.index or 0}"


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
        self.places: frozenset[str] | set[str] = frozenset()  # where this process measures now
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
        from filelock import FileLock  # noqa: PLC0415 - collecting needs no lock

        name = f"{kind}@{quote(share, safe=',')}@{self._name}.lock"
        return FileLock(self._folder / name, thread_local=False)

    def _held(self, kind: str, share: str) -> list[FileLock]:
        """Return the locks of this kind that others hold, who may see one of these devices."""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - as above

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


WORKER = "PYTEST_XDIST_WORKER"
CUDA = "CUDA_VISIBLE_DEVICES"
LEVEL_ZERO = "ZE_AFFINITY_MASK"
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def choose_device(environ: MutableMapping[str, str], *, named: str | None) -> None:
    """Leave one device visible to this worker; nothing changes outside a worker.

    Masks that are set already are divided among the workers. Without a mask, NVIDIA devices are
    counted; Intel's are not, since an integrated one may be among them. Where the user `named`
    the CPU or a device with its number, that is the choice, and every worker keeps seeing it.
    """
    index = _worker_index(environ)
    if index is None or (named is not None and (named == "cpu" or ":" in named)):
        return
    for variable in (CUDA, LEVEL_ZERO):
        visible = _listed(environ, variable)
        if visible is None and variable == CUDA:
            visible = [str(number) for number in range(count_nvidia_devices())]
        if visible:
            environ[variable] = visible[index % len(visible)]


def count_nvidia_devices(folder: Path = NVIDIA_GPUS) -> int:
    """Return how many NVIDIA devices the driver knows, 0 without a driver."""
    counted = _count_by_nvml()
    if counted is not None:
        return counted
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _count_by_nvml() -> int | None:
    try:
        import pynvml  # noqa: PLC0415 - an extra, and only a worker needs it
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def _worker_index(environ: Mapping[str, str]) -> int | None:
    digits = environ.get(WORKER, "").removeprefix("gw")
    return int(digits) if digits.isdecimal() else None


def _listed(environ: Mapping[str, str], variable: str) -> Sequence[str] | None:
    """Return the devices that a mask names, None without one; an empty mask hides them all."""
    if variable not in environ:
        return None
    return [name.strip() for name in environ[variable].split(",") if name.strip()]
