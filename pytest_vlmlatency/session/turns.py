"""Measured alone: whoever measures on a device holds its turn, and everyone else waits.

Two measurements side by side on one device, or on the cores that the CPU's are pinned to, measure
each other. The turn is a lock on a file, so that it also holds between the workers of one run and
between two runs of one user on one machine; it ends with the process that holds it, however that
ends. Tests beside a measurement are kept away by `sharing`; other users' runs, and whatever else
keeps the machine busy, are not.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from filelock import FileLock

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
