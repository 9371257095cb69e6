"""Files that are there whole or not at all, and that a cut of the power does not take back.

Owns how every file is written that is reported as written: a draft beside it, forced to the disk,
renamed, and the folder forced to the disk; the lock of a folder whose files are read, changed and
written again; and temporary folders. A draft or temporary folder is locked while its process lives,
so that the next process removes what a killed one left, and nothing else. What stands in a file is
the business of others.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import VlmLatencyError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # it is a module elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import BinaryIO

DRAFT_SUFFIX = ".part"
SCRATCH = "vlmlatency-scratch-"
ABANDONED_AFTER_S = 24 * 3600.0
"""Where files cannot be locked: a draft that nobody wrote to for a day."""
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


def write_whole(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file, replacing one of its name at once; NotWritten leaves that as it was.

    Of a content in pieces, one at a time is held.
    A link stays a link, and its target is written. A device or a pipe is written to as it is.
    """
    write_all_whole({Path(path): content})


def write_all_whole(contents: Mapping[Path, str | bytes | Iterable[str]]) -> None:
    """Write files as `write_whole` does, none of them before all are ready to be put in place."""
    with ExitStack() as held:
        ready: list[tuple[Path, Path | Iterable[bytes]]] = []
        for path, content in contents.items():
            pieces = [content] if isinstance(content, str | bytes) else content
            data = (one.encode() if isinstance(one, str) else one for one in pieces)
            with _named(path):
                if _is_special(path):
                    ready.append((path, data))
                    continue
                target = Path(os.path.realpath(path))
                if target.is_dir():
                    raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
                ready.append((path, held.enter_context(_draft(target, data))))
        for path, draft in ready:
            with _named(path):
                if isinstance(draft, Path):
                    put_in_place(draft, Path(os.path.realpath(path)))
                    continue
                with path.open("wb") as file:
                    file.writelines(draft)


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
    """Make a folder and those above it, each forced to the disk.

    So is the lowest one that is there: a process may have been killed once it had made it.
    """
    above = (folder, *folder.parents)
    missing = [one for one in above if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in above[: len(missing) + 1]:
        force_names_to_disk(one.parent)


def force_names_to_disk(folder: Path) -> None:
    """Force the names in a folder to the disk; not every system opens folders."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_abandoned_drafts(folder: Path, *, of: str = "") -> None:
    """Remove drafts, or those `of` one file, of processes that were killed, where that is possible.

    Old ones without a lock are removed where files cannot be locked.
    """
    before = time.time() - ABANDONED_AFTER_S
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_draft(entry.name) and entry.name.startswith(f".{of}"):
                with suppress(OSError):
                    if entry.is_file(follow_symlinks=False):
                        _remove_abandoned_draft(Path(entry.path), before)


def _remove_abandoned_draft(draft: Path, before: float) -> None:
    with suppress(TimeoutError):  # its process lives
        handle = _lock(draft, timeout_s=0)
        if handle is not None or draft.stat().st_mtime < before:
            draft.unlink()
        if handle is not None:
            os.close(handle)


@contextmanager
def scratch_folder(prefix: str = SCRATCH) -> Iterator[Path]:
    """Make a temporary folder that is gone at the end, or once the next one is made."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        remove_if_abandoned(left)
    folder, handle = _locked_scratch(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def remove_if_abandoned(folder: Path) -> bool:
    """Remove a temporary folder of this user whose process is gone; return whether it is gone."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or (
            hasattr(os, "getuid") and found.st_uid != os.getuid()
        ):
            return False
        handle = _lock(folder, timeout_s=0)
    except FileNotFoundError:
        return True
    except OSError:  # a TimeoutError among them: its process lives
        return False
    if handle is None:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)
    return not folder.exists()


def _locked_scratch(prefix: str) -> tuple[Path, int | None]:
    """Return a new temporary folder with its lock, None where folders cannot be locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        with suppress(FileNotFoundError, TimeoutError):
            handle = _lock(folder, timeout_s=LOCK_TIMEOUT_S)
            if handle is None or folder.exists():
                return folder, handle
            os.close(handle)  # another process took it for an abandoned one, just before


@contextmanager
def _draft(target: Path, data: Iterable[bytes]) -> Iterator[Path]:
    """Write a draft beside a file and hold its lock; what is left of it is removed at the end."""
    remove_abandoned_drafts(target.parent, of=f"{target.name}.")
    draft, file = _locked_draft(target)
    try:
        with file:
            file.writelines(data)
            file.flush()
            if fcntl is None:  # Windows renames no file that is open
                file.close()
            yield draft
    finally:
        draft.unlink(missing_ok=True)


def _locked_draft(target: Path) -> tuple[Path, BinaryIO]:
    """Return a new draft of a file, locked where files can be."""
    while True:
        draft = Path(draft_of(str(target)))
        file = draft.open("xb")
        if fcntl is None:
            return draft, file
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process takes it for an abandoned one
            file.close()
            continue
        except OSError:  # a system without locks
            return draft, file
        if draft.exists():
            return draft, file
        file.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise NotWritten with the path, the reason and what to do, where a system's call fails."""
    try:
        yield
    except OSError as problem:
        raise NotWritten(f"{path} could not be written: {_advice(problem, path)}") from problem


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder meanwhile; NotWritten if one does not end.

    The folder itself is locked, and no file is left in it. Where a system cannot lock folders, as
    over NFS or on Windows, a hidden file in it is.
    """
    with ExitStack() as held:
        try:
            handle = _lock(folder, timeout_s=LOCK_TIMEOUT_S)
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


def _lock(path: Path, *, timeout_s: float) -> int | None:
    """Return an open handle of a folder or file that is locked; None where they cannot be."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    until = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
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
