"""Where a history lies: a folder, or whatever fsspec reaches behind a URL (S3, GCS, a share).

Owns listing, reading, writing whole or not at all, and removing files; what is in them is the
business of others. Paths are relative to the place, with "/" between their parts. A file is never
changed: one name, one content.
"""

from __future__ import annotations

import os
import stat
from glob import escape
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_vlmlatency.errors import HistoryProblem, UsageProblem
from pytest_vlmlatency.printing import secrets_in, warn, without_secrets
from pytest_vlmlatency.whole_files import (
    NotWritten,
    draft_of,
    make_folder,
    remove_abandoned_drafts,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fsspec import AbstractFileSystem

RUNS = "runs"
COMPACTED = "compacted"
"""The folders of a history: a file for each run, and Parquet files of many."""
OBJECT_STORES = frozenset(
    ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "ocilake", "oss", "memory")
)
"""Here one put makes the whole object appear at once; elsewhere a draft is renamed."""
S3 = frozenset(("s3", "s3a"))
CONNECT_S, READ_S, N_ATTEMPTS = 5.0, 15.0, 2
"""Of S3: how long a connection and an answer are waited for, and how often that is tried. What its
packages do otherwise takes minutes until a server that does not answer is reported."""
QUIET_S = 3.0  # then a line names what is waited for
LIMIT_S = 60.0
SLOWEST_BYTES_PER_S = 50_000.0
"""Any place: how long listing, removing and writing may take, and how much longer by the bytes."""
Answer = TypeVar("Answer")


class Place(Protocol):
    """A folder of files, near or far."""

    url: str

    def list(self, folder: str) -> Sequence[str]:
        """Return the paths of the files in a folder; none if there is no such folder."""

    def others(self, folder: str) -> Sequence[str]:
        """Return the paths in a folder that lead to no file: folders, pipes, broken links."""

    def read(self, paths: Sequence[str]) -> Mapping[str, bytes | Exception]:
        """Return the content of each file, or why it cannot be read."""

    def write(self, path: str, content: bytes | Iterable[str]) -> None:
        """Write a file whole, or not at all."""

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""

    def whole_path(self, path: str) -> str:
        """Return where a file lies, as DuckDB is told: a pattern that matches nothing else."""

    @property
    def file_system(self) -> AbstractFileSystem | None:
        """What reaches `whole_path`, None for the machine's own files."""


def place_of(url: str | Path) -> Place:
    """Return the place that a path or a URL names. Nothing is read, written or made yet."""
    protocol, has_protocol, rest = str(url).partition("://")
    if not has_protocol:
        return Folder(Path(url))
    if protocol in ("file", "local"):
        return Folder(Path(rest))
    return Remote(str(url))


class Folder:
    """A folder of this machine, or a share that is mounted."""

    file_system = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = str(folder)

    def list(self, folder: str) -> Sequence[str]:
        """Return the files of a folder by path; none if there is no such folder."""
        return self._entries(folder, are_files=True)

    def others(self, folder: str) -> Sequence[str]:
        """Return the paths in a folder that lead to no file: folders, pipes, broken links."""
        return self._entries(folder, are_files=False)

    def _entries(self, folder: str, *, are_files: bool) -> Sequence[str]:
        try:
            with os.scandir(self.folder / folder) as entries:
                return [f"{folder}/{one.name}" for one in entries if _is_file(one) == are_files]
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise HistoryProblem(f"{self.url} cannot be listed: {problem}") from problem

    def read(self, paths: Sequence[str]) -> dict[str, bytes | Exception]:
        """Return the content of each file, or why it cannot be read."""
        return {path: self._content(path) for path in paths}

    def write(self, path: str, content: bytes | Iterable[str]) -> None:
        """Write a file so that a cut of the power does not take it back."""
        target = self._within(path)
        try:
            make_folder(target.parent)
            write_whole(target, content)
        except NotWritten as problem:
            raise HistoryProblem(str(problem)) from problem
        except OSError as problem:
            raise HistoryProblem(f"{target} could not be written: {problem}") from problem
        remove_abandoned_drafts(target.parent)

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        try:
            self._within(path).unlink(missing_ok=True)
        except OSError as problem:
            raise HistoryProblem(f"{self.url}/{path} could not be removed: {problem}") from problem

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(self.folder / path)  # never raises

    def whole_path(self, path: str) -> str:
        """Return the absolute path of a file, as a pattern."""
        return escape(str(self.folder / path))

    def _within(self, path: str) -> Path:
        """Return where a file is written or removed; HistoryProblem if a link leads elsewhere."""
        target = self.folder / path
        if target.parent != self.folder and target.parent.is_symlink():
            raise HistoryProblem(
                f"{target.parent} is a link; expected a folder, since the files of a history lie "
                f"within it. Link the history as a whole, or replace the link by a folder"
            )
        return target

    def _content(self, path: str) -> bytes | Exception:
        target = self.folder / path
        try:
            if not stat.S_ISREG(target.stat().st_mode):  # a pipe would be waited for
                return OSError("it is no regular file")
            return target.read_bytes()
        except OSError as problem:
            return problem


class Remote:
    """Whatever fsspec reaches. Its errors are of any kind, so any is caught and named."""

    def __init__(self, url: str) -> None:
        self.url = without_secrets(url).rstrip("/")
        self._secrets = secrets_in(url)
        self.file_system, root = _file_system(url)
        self._root = root.rstrip("/")
        self._protocol = url.partition("://")[0]

    def list(self, folder: str) -> list[str]:
        """Return the files of a folder by path, as they are now and not as fsspec remembers."""
        whole = self._within(folder)
        try:
            self.file_system.invalidate_cache()
            found = self._in_time(lambda: self.file_system.ls(whole, detail=True), LIMIT_S)
        except FileNotFoundError:
            self._refuse_a_missing_bucket()
            return []
        except Exception as problem:
            raise HistoryProblem(f"{self.url} cannot be listed: {self._said(problem)}") from None
        files = (str(entry["name"]) for entry in found if entry["type"] == "file")
        return [f"{folder}/{name.rpartition('/')[2]}" for name in files if name != whole]

    def others(self, _folder: str) -> tuple[str, ...]:
        """Return nothing: what is no file in a store of objects is a part of names."""
        return ()

    def read(self, paths: Sequence[str]) -> dict[str, bytes | Exception]:
        """Return the content of each file, fetched side by side, or why it cannot be read."""
        if not paths:
            return {}
        wholes = [self._within(path) for path in paths]
        try:  # not cat(), which takes brackets and stars in a path for a pattern
            found = self._in_time(
                lambda: self.file_system.cat_ranges(wholes, None, None, on_error="return")
            )
        except Exception as problem:
            found = [problem] * len(paths)
        return {path: self._or_reason(one) for path, one in zip(paths, found, strict=True)}

    def write(self, path: str, content: bytes | Iterable[str]) -> None:
        """Put an object at once, or write a draft and rename it where there are no objects."""
        data = content if isinstance(content, bytes) else "".join(content).encode()
        limit_s = LIMIT_S + len(data) / SLOWEST_BYTES_PER_S
        try:
            self._in_time(lambda: self._put(self._within(path), path, data), limit_s)
        except Exception as problem:
            raise HistoryProblem(f"{self.url}/{path}: not written: {self._said(problem)}") from None

    def _put(self, target: str, path: str, content: bytes) -> None:
        if self._protocol in OBJECT_STORES:
            self.file_system.pipe_file(target, content)
            return
        draft = self._within(draft_of(path))
        self.file_system.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.file_system.pipe_file(draft, content)
        self.file_system.mv(draft, target)

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""
        try:
            self._in_time(lambda: self.file_system.rm_file(self._within(path)), LIMIT_S)
        except FileNotFoundError:
            return
        except Exception as problem:
            raise HistoryProblem(f"{self.url}/{path}: not removed: {self._said(problem)}") from None

    def whole_path(self, path: str) -> str:
        """Return the URL of a file, as a pattern."""
        return escape(str(self.file_system.unstrip_protocol(self._within(path))))

    def _refuse_a_missing_bucket(self) -> None:
        """Raise HistoryProblem where S3 says that there is no such bucket: that is no empty one."""
        if self._protocol not in S3:
            return
        bucket = self._root.partition("/")[0]
        try:
            self.file_system.call_s3("head_bucket", Bucket=bucket)
        except FileNotFoundError:
            raise HistoryProblem(
                f"{self.url}: there is no bucket {bucket!r}; create it, or name another: a history "
                f"makes none itself"
            ) from None
        except Exception:  # whoever may only list objects is not told of the bucket
            return

    def _in_time(self, act: Callable[[], Answer], limit_s: float | None = None) -> Answer:
        """Return an action's result; a line names the place where it is slow.

        TimeoutError after `limit_s`: not each way of fsspec's has a limit of its own.
        """
        found: list[Answer] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                found.append(act())
            except BaseException as problem:
                raised.append(problem)

        thread = Thread(target=run, daemon=True)  # one that never ends does not hold up the exit
        thread.start()
        thread.join(QUIET_S)
        if thread.is_alive():
            warn(f"Waiting for {self.url} ...")
            thread.join(None if limit_s is None else limit_s - QUIET_S)
        if raised:
            raise raised[0]
        if not found:
            raise TimeoutError(f"no answer within {limit_s:.0f} s")
        return found[0]

    def _within(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _or_reason(self, found: bytes | Exception) -> bytes | Exception:
        if isinstance(found, bytes | FileNotFoundError):
            return found
        return OSError(self._said(found))

    def _said(self, problem: Exception) -> str:
        """Return an error of another package, without what the URL says of the user."""
        told = without_secrets(f"{type(problem).__name__}: {problem}")
        for secret in self._secrets:
            told = told.replace(secret, "***")
        return told


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.config import conf  # noqa: PLC0415 - a folder needs none of it
    from fsspec.core import url_to_fs  # noqa: PLC0415 - as above

    is_s3 = url.partition("://")[0] in S3
    limits = {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}}
    own = conf.get("s3", {}).get("config_kwargs", {})  # a user's settings of fsspec come first
    try:
        if is_s3:
            file_system, root = url_to_fs(url, config_kwargs={**limits, **own})
            file_system.retries = N_ATTEMPTS
        else:
            file_system, root = url_to_fs(url)
    except (ValueError, ImportError) as problem:
        raise UsageProblem(
            f"the history {url!r} cannot be opened: {problem}; expected a folder, or a URL that "
            f"fsspec knows, with its package installed (s3fs for s3://, gcsfs for gs://)"
        ) from None
    return file_system, str(root)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads back to itself
        return False
