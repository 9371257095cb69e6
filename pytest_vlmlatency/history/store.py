"""The history: every run an immutable file, in a folder or behind a URL.

Owns which runs there are and how they are read, whether they stand as files of their own or folded
into Parquet (`compacted`). Whatever is no run is named with the reason and left out: it is never
fatal, and never deleted. What a baseline is, and what is slower, is decided elsewhere.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.checked_runs import Gone, Unreadable, checked, parse, summary_of
from pytest_vlmlatency.history.names import SUFFIX, RunName, name_of, parse_name
from pytest_vlmlatency.history.places import COMPACTED, RUNS, Folder, place_of
from pytest_vlmlatency.history.streamed import rounds_of_pieces
from pytest_vlmlatency.records import RunRounds
from pytest_vlmlatency.whole_files import is_draft, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_vlmlatency.history.checked_runs import Plain, RunSummary
    from pytest_vlmlatency.history.places import Place
    from pytest_vlmlatency.records import Run

FETCHED_AT_ONCE = 20
MOST_LOOKS = 5  # at a history that compactions change meanwhile
IGNORE_FILE = ".gitignore"
IGNORED = f"# written by pytest-vlmlatency\n/{RUNS}/\n/{COMPACTED}/\n/{IGNORE_FILE}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What runs there are, oldest first, and what stands beside them that is no run."""

    names: tuple[RunName, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRuns:
    """Runs as they are judged, in the order that was asked for, and what could not be read."""

    runs: tuple[RunRounds, ...]
    problems: tuple[str, ...] = ()


def open_store(url: str | Path, *, is_readonly: bool = False) -> Store:
    """Return the history at a path or an fsspec URL. Nothing is read, written or made yet."""
    return Store(place_of(url), is_readonly=is_readonly)


class Store:
    """One history. It remembers where the index last saw each run, and looks again if it moved.

    `files` and `folded` are those places: the run's own file, and the Parquet file that has it.
    """

    def __init__(self, place: Place, *, is_readonly: bool = False) -> None:
        self.place = place
        self.is_readonly = is_readonly
        self.files: dict[RunName, str] = {}
        self.folded: dict[RunName, str] = {}

    @property
    def url(self) -> str:
        """Where it lies, as it was given."""
        return self.place.url

    def write(self, run: Run) -> str:
        """Keep a run in a file of its own, whole or not at all; return the name of the run."""
        from pytest_vlmlatency.plain import run_pieces  # noqa: PLC0415 - reading needs no cattrs

        self.check_writable()
        name = name_of(run)
        self.place.write(file_of(name), run_pieces(run))
        return name.text

    def take_over(self, waiting: Store) -> tuple[int, tuple[str, ...]]:
        """Move the runs of another history here, oldest first; return how many, and problems.

        What cannot be read stays where it is.
        """
        index = waiting.index()
        problems = list(index.problems)
        n_moved = 0
        for name, content in waiting.contents(files_of(index.names)):
            found = _rounds_or_reason(content, name)
            if isinstance(found, Unreadable):
                problems.append(f"{name.text}: {found}")
            elif isinstance(content, bytes):
                self.place.write(file_of(name), content)
                waiting.place.remove(file_of(name))
                n_moved += 1
        return n_moved, tuple(problems)

    def check_writable(self) -> None:
        """Raise HistoryProblem if this history is for reading only; keep it out of git's way."""
        if self.is_readonly:
            raise HistoryProblem(f"{self.url} was opened for reading only: nothing is kept there")
        if isinstance(self.place, Folder) and not self.place.has(IGNORE_FILE):
            self.place.write(IGNORE_FILE, IGNORED.encode())

    def index(self) -> Index:
        """Return all runs by name without opening their files, and what is no run."""
        for _ in range(MOST_LOOKS - 1):
            try:
                return self._index()
            except Gone:
                continue  # a compaction joined Parquet files while they were looked at
        try:
            return self._index()
        except Gone as problem:
            raise HistoryProblem(
                f"{self.url} changes faster than it can be read: {problem}"
            ) from problem

    def _index(self) -> Index:
        # Files first: a run goes from there into Parquet, and is in both for a while.
        files = [path for path in self.place.list(RUNS) if not is_draft(path)]
        compacted = parquet_files(self.place)
        named = {path: parse_name(stem_of(path)) for path in sorted(files)}
        foreign = [f"{path}: not named as a run is" for path, name in named.items() if not name]
        foreign += [
            f"{path}: no regular file"
            for folder in (RUNS, COMPACTED)
            for path in sorted(self.place.others(folder))
        ]
        self.files = {name: path for path, name in named.items() if name is not None}
        self.folded = {}
        if compacted:
            from pytest_vlmlatency.history import parquet  # noqa: PLC0415 - imports duckdb

            contents, problems = parquet.names_in(self.place, compacted)
            foreign += problems
            self.folded = {name: path for path, names in contents.items() for name in names}
        names = sorted({*self.files, *self.folded})
        return Index(names=tuple(names), problems=tuple(foreign))

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        """Return runs as they are judged; one that cannot be read is named and left out."""
        asked = tuple(dict.fromkeys(names))
        found = self._found(asked)
        for _ in range(MOST_LOOKS):
            gone = [name for name, got in found.items() if isinstance(got, Gone)]
            if not gone:
                break
            self.index()  # compaction may have moved them just now
            found |= self._found(gone)
        problems = [
            f"{name.text}: {found[name]}" for name in asked if isinstance(found[name], Unreadable)
        ]
        runs = [got for name in asked if isinstance(got := found[name], RunRounds)]
        return StoredRuns(runs=tuple(runs), problems=tuple(problems))

    def summaries(
        self, names: Sequence[RunName]
    ) -> tuple[dict[RunName, RunSummary], tuple[str, ...]]:
        """Return what a listing shows of runs, by name, and what could not be read.

        Memory holds the summaries, and of the runs a few at once.
        """
        found: dict[RunName, RunSummary] = {}
        by_file: dict[str, list[RunName]] = {}
        for name in names:
            if name not in self.files and name in self.folded:
                by_file.setdefault(self.folded[name], []).append(name)
        if by_file:
            from pytest_vlmlatency.history import parquet  # noqa: PLC0415 - imports duckdb

            for path, of_it in by_file.items():
                with suppress(Unreadable), scratch_folder() as scratch:
                    if parquet.has_digest(path):
                        near = parquet.near(self.place, path, Folder(scratch))
                        by_text = parquet.read_summaries(near, path, of_it)
                        found |= {n: by_text[n.text] for n in of_it if n.text in by_text}
        problems: list[str] = []
        others = [name for name in names if name not in found]
        for start in range(0, len(others), FETCHED_AT_ONCE):
            some = others[start : start + FETCHED_AT_ONCE]
            stored = self.read(some)
            problems += stored.problems
            by_id = {name.id: name for name in some}
            found |= {by_id[run.header.id]: summary_of(run) for run in stored.runs}
        return found, tuple(problems)

    def read_whole(self, name: RunName) -> Run:
        """Return a run with every call and span, or raise HistoryProblem."""
        from pytest_vlmlatency.history.run_files import whole_run  # noqa: PLC0415 - imports cattrs

        try:
            return whole_run(self.read_plain(name))
        except Unreadable as problem:
            raise HistoryProblem(f"{self.url}: {name.text}: {problem}") from problem

    def read_plain(self, name: RunName) -> Plain:
        """Return a run's plain values in today's schema, or raise Unreadable."""
        for _ in range(MOST_LOOKS - 1):
            try:
                return self._read_plain(name)
            except Gone:
                self.index()  # compaction may have moved it just now
        return self._read_plain(name)

    def _read_plain(self, name: RunName) -> Plain:
        content = self.place.read([file_of(name)])[file_of(name)]
        if isinstance(content, bytes):
            return checked(parse(content), name)
        if not isinstance(content, FileNotFoundError):
            raise Unreadable(str(content))
        if name not in self.folded:
            raise Gone("there is no such run (any more)")
        from pytest_vlmlatency.history import parquet  # noqa: PLC0415 - imports duckdb

        return parquet.read_plain(self.place, self.folded[name], name)

    def contents(self, files: Mapping[str, RunName]) -> Iterator[tuple[RunName, bytes | Exception]]:
        """Yield the run of each file by its path, and the content, or why it cannot be read.

        Few are in memory at once: one from a folder, and as many as are fetched side by side.
        """
        at_once = 1 if isinstance(self.place, Folder) else FETCHED_AT_ONCE
        paths = list(files)
        for start in range(0, len(paths), at_once):
            some = dict(self.place.read(paths[start : start + at_once]))
            for path in list(some):
                yield files[path], some.pop(path)

    def _found(self, names: Sequence[RunName]) -> dict[RunName, RunRounds | Unreadable]:
        """Return each run, or why it cannot be read; Gone where it is not where it was."""
        files = {self.files[name]: name for name in names if name in self.files}
        found: dict[RunName, RunRounds | Unreadable] = {}
        for name, content in self.contents(files):
            found[name] = _rounds_or_reason(content, name)
            del content  # before the next file is read
        folded_names = [n for n in names if n not in self.files and n in self.folded]
        if folded_names:
            from pytest_vlmlatency.history import parquet  # noqa: PLC0415 - imports duckdb

            paths = {name: self.folded[name] for name in folded_names}
            found |= parquet.read_rounds(self.place, paths)
        return {name: found.get(name, Gone("there is no such run (any more)")) for name in names}


def file_of(name: RunName) -> str:
    """Return the path of a run's own file."""
    return f"{RUNS}/{name.text}{SUFFIX}"


def files_of(names: Iterable[RunName]) -> dict[str, RunName]:
    """Return runs by the paths of their own files."""
    return {file_of(name): name for name in names}


def parquet_files(place: Place) -> list[str]:
    """Return the paths of the Parquet files, and of whatever else lies there."""
    return sorted(path for path in place.list(COMPACTED) if not is_draft(path))


def stem_of(path: str) -> str:
    """Return the name that a file should be of a run, whatever else it may be."""
    return path.rpartition("/")[2].removesuffix(SUFFIX)


def readable(content: bytes | Exception) -> bytes:
    """Return the content of a file, or raise Unreadable with why it could not be read."""
    if isinstance(content, FileNotFoundError):
        raise Gone("there is no such run (any more)")
    if isinstance(content, Exception):
        raise Unreadable(f"it cannot be read: {content}")
    return content


def _rounds_or_reason(content: bytes | Exception, name: RunName) -> RunRounds | Unreadable:
    try:
        return rounds_of_pieces(readable(content), name)
    except Unreadable as problem:
        return problem
