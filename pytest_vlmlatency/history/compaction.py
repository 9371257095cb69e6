"""Compaction: old runs go into Parquet, and their own files go once that is verified.

Whatever moment it is stopped at, every run can be read: a Parquet file is there whole or not at
all, a run's own file is removed after the Parquet file was read back from the history and compared
with it, and a run that stands in both is read once. So it can be run again, and beside itself: two
that fold the same runs write the same file, or two that hold the same run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history import folded, folding
from pytest_vlmlatency.history.slim import Gone, Unreadable, parse, rounds_of_run
from pytest_vlmlatency.history.store import checked, file_of, parquet_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.slim import Plain
    from pytest_vlmlatency.history.store import Store

RUNS_PER_FILE = 1000
RUNS_AT_ONCE = 50  # in memory, while they are folded or verified
MANY_SMALL_FILES = 8
SMALL_FILE_RUNS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What was done. `problems` are runs that could not be read: they stay as they are."""

    n_folded: int
    n_joined: int
    problems: tuple[str, ...]


def compact(
    store: Store, *, n_newest_kept: int = 0, report: Callable[[str], None] | None = None
) -> Compacted:
    """Fold all runs but the newest into Parquet, and small Parquet files into one."""
    store.check_writable()
    store.index()
    own = sorted(store.files)
    old = own[: len(own) - n_newest_kept]
    problems: list[str] = []
    n_folded = _remove_what_is_folded(store, [name for name in old if name in store.folded])
    for names in _batches([name for name in old if name not in store.folded], RUNS_PER_FILE):
        n_folded += _fold(store, names, problems)
        if report is not None:
            report(f"{n_folded} of {len(old)} runs are in Parquet")
    n_joined = _join_small_files(store)
    return Compacted(n_folded=n_folded, n_joined=n_joined, problems=tuple(problems))


def _fold(store: Store, names: Sequence[RunName], problems: list[str]) -> int:
    """Fold runs into one file, verify it and remove their own; return how many runs it holds."""
    readable = []
    with folding.Rows() as rows:
        for some in _batches(names, RUNS_AT_ONCE):
            for name, plain in _own_values(store, some).items():
                if isinstance(plain, Gone):
                    continue  # another compaction was quicker
                problem = plain if isinstance(plain, Unreadable) else _add(rows, name, plain)
                if problem is None:
                    readable.append(name)
                else:
                    problems.append(f"{name.text}: {problem}")
        if not readable:
            return 0
        path = rows.write(store.place, readable)
    return _verify_and_remove(store, path, readable)


def _add(rows: folding.Rows, name: RunName, plain: Plain) -> Unreadable | None:
    try:
        rows.add(folded.rows_of(name, plain))
    except Unreadable as problem:
        return problem
    return None


def _remove_what_is_folded(store: Store, names: Sequence[RunName]) -> int:
    """Remove own files of runs that stand in Parquet already: an earlier compaction was stopped."""
    by_path: dict[str, list[RunName]] = {}
    for name in names:
        by_path.setdefault(store.folded[name], []).append(name)
    return sum(_verify_and_remove(store, path, names) for path, names in by_path.items())


def _verify_and_remove(store: Store, path: str, names: Sequence[RunName]) -> int:
    """Remove the own files of runs that a Parquet file, as it is now, gives back unchanged."""
    for some in _batches(names, RUNS_AT_ONCE):
        originals = _own_values(store, some)
        plains = folded.read_plains(store.place, path, some)
        judged = folded.read_rounds(store.place, dict.fromkeys(some, path))
        for name, original in originals.items():
            if isinstance(original, Gone):
                continue  # another compaction verified it, and was quicker
            if plains[name] != original or judged[name] != rounds_of_run(plains[name]):
                raise HistoryProblem(
                    f"{path} does not give back {name.text} as it was written; no file was removed "
                    f"that it was compared with"
                )
            store.place.remove(file_of(name))
    return len(names)


def _join_small_files(store: Store) -> int:
    """Join small Parquet files once there are many; return how many became one."""
    held, _ = folded.names_in(store.place, parquet_files(store.place))
    small = {path: names for path, names in held.items() if len(names) < SMALL_FILE_RUNS}
    if len(small) < MANY_SMALL_FILES:
        return 0
    joined = folding.join(store.place, small)
    for path in small:
        n_missing = folding.rows_missing(store.place, path, joined)
        if n_missing:
            raise HistoryProblem(f"{joined} lacks {n_missing} rows of {path}, which stays")
        if path != joined:
            store.place.remove(path)
    return len(small)


def _own_values(store: Store, names: Sequence[RunName]) -> dict[RunName, Plain | Unreadable]:
    """Return the plain values of runs from their own files, or why they cannot be read."""
    paths = {file_of(name): name for name in names}
    return {
        paths[path]: _values(got, paths[path])
        for path, got in store.place.read(list(paths)).items()
    }


def _values(content: bytes | Exception, name: RunName) -> Plain | Unreadable:
    if isinstance(content, FileNotFoundError):
        return Gone("it is gone")
    if isinstance(content, Exception):
        return Unreadable(str(content))
    try:
        return checked(parse(content), name)
    except Unreadable as problem:
        return problem


def _batches(names: Sequence[RunName], size: int) -> Iterator[Sequence[RunName]]:
    return (names[start : start + size] for start in range(0, len(names), size))
