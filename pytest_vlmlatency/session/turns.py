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
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

POLL_S = 0.1  # a waiting process wakes ten times a second: nothing beside what it waits for
MS_PER_S = 1000


@contextmanager
def turn_on(
    places: Sequence[str], *, folder: Path, progress: Callable[[str], None] | None
) -> Iterator[float]:
    """Hold the turn on every place; yield how long that was waited for, in ms.

    Places are taken in the order of their names, so that two that want the same never wait for
    each other.
    """
    waited_ms = 0.0
    with ExitStack() as held:
        for place in sorted(places):
            lock = FileLock(folder / f"{place}.lock")
            waited_ms += _acquire(lock, place, progress)
            held.callback(lock.release)
        yield waited_ms


def turns_folder() -> Path:
    """Return this user's folder of turns in the temporary directory, made if it is missing."""
    user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    folder = Path(tempfile.gettempdir()) / f"vlmlatency-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _acquire(lock: FileLock, place: str, progress: Callable[[str], None] | None) -> float:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress is not None:
            progress(f"waiting for another measurement on {place}")
        start_s = time.monotonic()
        lock.acquire(poll_interval=POLL_S)
        return (time.monotonic() - start_s) * MS_PER_S
    return 0.0
