"""Other processes on a device: how many of those that the driver lists are not of this run.

The driver lists every process with a context there. Of this run are this process, those that it
was started by (a gate that measures again still has a context of its own, idle), and the workers
beside it, which measure in turns. In a container the driver may number processes as the host does,
or hide those outside: what cannot be counted is None, and a count is never too high.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
WORKER = "PYTEST_XDIST_WORKER"
PARENT_FIELD = 1  # of /proc/PID/stat behind the name in parentheses: state, parent, ...
GPU_FILES = ("/dev/nvidia", "/dev/dxg")
"""A process with a context has one of these open; the second is that of Windows' Linux."""


def n_others(listed: Iterable[int] | None) -> int | None:
    """Return at least how many of the listed processes are of others; None where nobody can tell.

    Where this process, which has a context, is not listed, the numbers are those of another
    namespace: then as many of the listed are of this run as may have a context.
    """
    if listed is None:
        return None
    pids, run = set(listed), _own_run()
    if os.getpid() in pids:
        return len(pids - run)
    n_least = len(pids) - sum(map(_may_have_a_context, run))
    return n_least if n_least > 0 else None


def _own_run() -> set[int]:
    own = os.getpid()
    run = {own, *_ancestors(own)}
    if WORKER in os.environ:
        controller = _parent_of(own)
        run |= {pid for pid in _processes() if _parent_of(pid) == controller}
    return run


def _ancestors(pid: int) -> Iterator[int]:
    parent = _parent_of(pid)
    while parent:  # 0 is outside of what can be seen here
        yield parent
        parent = _parent_of(parent)


def _parent_of(pid: int) -> int | None:
    """Return a process's parent, None where the system does not tell."""
    try:
        status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[PARENT_FIELD])


def _processes() -> Iterator[int]:
    try:
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    except OSError:  # no such folder on this system
        return


def _may_have_a_context(pid: int) -> bool:
    """Whether a process has a GPU's file open, or belongs to somebody whose files are hidden."""
    if pid == os.getpid():
        return True
    try:
        opened = [str(entry.readlink()) for entry in (PROC / str(pid) / "fd").iterdir()]
    except OSError:  # hidden, or something was closed meanwhile: it may
        return True
    return any(name.startswith(GPU_FILES) for name in opened)
