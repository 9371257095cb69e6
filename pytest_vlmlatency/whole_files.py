"""Files that are there whole or not at all, and that a cut of the power does not take back.

Owns how every file is written that is reported as written: a draft beside it, forced to the disk,
renamed, and the folder forced to the disk; and the lock of a folder whose files are read, changed
and written again. What stands in a file is the business of others.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import VlmLatencyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # it is a module elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

DRAFT_SUFFIX = ".part"
ABANDONED_AFTER_S = 24 * 3600.0
"""A draft that nobody wrote to for a day: whoever began it was killed."""
LOCK = ".vlmlatency.lock"
LOCK_TIMEOUT_S = 60.0  # another process that writes here is done in seconds
LOCK_POLL_S = 0.05


class NotWritten(VlmLatencyError, OSError):
    """A file that could not be written; nothing of it is there, and what was there before stays."""

    __str__ = Exception.__str__  # an OSError's own is made of its number


def draft_of(path: str) -> str:
    """Return a hidden name of its own in the same folder."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}.{name}.{secrets.token_hex(4)}{DRAFT_SUFFIX}"


def is_draft(path: str) -> bool:
    """Whether a file is one that somebody is writing, or was when he was stopped."""
    return path.rpartition("/")[2].startswith(".") and path.endswith(DRAFT_SUFFIX)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, replacing one of its name at once; NotWritten leaves that as it was.

    A link stays a link, and its target is written. A device or a pipe is written to as it is.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        if _is_special(path):
            path.write_bytes(data)
            return
        target = Path(os.path.realpath(path))
        draft = Path(draft_of(str(target)))
        try:
            with draft.open("xb") as file:
                file.write(data)
            put_in_place(draft, target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as problem:
        raise NotWritten(f"{path} could not be written: {_advice(problem, path)}") from problem


def put_in_place(draft: Path, target: Path) -> None:
    """Force a draft's content to the disk, then rename it to `target`: that is the moment."""
    handle = os.open(draft, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(target)
    force_names_to_disk(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each forced to the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        force_names_to_disk(one.parent)


def force_names_to_disk(folder: Path) -> None:
    """Force the names in a folder to the disk; not every system opens folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_abandoned_drafts(folder: Path) -> None:
    """Remove drafts of processes that were killed; what cannot be removed stays."""
    before = time.time() - ABANDONED_AFTER_S
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_draft(entry.name):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)  # noqa: PTH108 - it is a DirEntry


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder meanwhile; NotWritten if one does not end.

    The folder itself is locked, and no file is left in it. Where a system cannot lock folders, as
    over NFS or on Windows, a hidden file in it is.
    """
    with ExitStack() as held:
        try:
            handle = _lock_folder(folder)
            if handle is None:
                held.enter_context(_lock_file(folder))
            else:
                held.callback(os.close, handle)
        except TimeoutError:
            raise NotWritten(
                f"nothing was written to {folder}: another process has been writing there for "
                f"more than {LOCK_TIMEOUT_S:.0f} s; wait for it, or name another place"
            ) from None
        except OSError as problem:
            raise NotWritten(f"{folder} could not be written: {_advice(problem, folder)}") from None
        yield


def _lock_folder(folder: Path) -> int | None:
    """Return an open handle of a folder that is locked; None where folders cannot be."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(handle)
                raise TimeoutError from None
            time.sleep(LOCK_POLL_S)
        except OSError:
            os.close(handle)
            return None
        else:
            return handle


def _lock_file(folder: Path) -> AbstractContextManager[object]:
    from filelock import FileLock  # noqa: PLC0415 - seldom needed

    return FileLock(folder / LOCK).acquire(timeout=LOCK_TIMEOUT_S)  # its Timeout is a TimeoutError


def _is_special(path: Path) -> bool:
    """Whether a path is there and neither a file nor a folder: /dev/stdout, a named pipe."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _advice(problem: OSError, path: Path) -> str:
    why = problem.strerror or str(problem)
    if isinstance(problem, FileNotFoundError):
        return f"there is no folder {path.parent}; make it, or name another place"
    return f"{why}; name a place that can be written to"
