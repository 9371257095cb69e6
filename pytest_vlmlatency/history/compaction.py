"""Compaction: old runs go into Parquet, and their own files go once that is verified.

Whatever moment it is stopped at, every run can be read: a Parquet file is there whole or not at
all, a run's own file is removed after the Parquet file was read back from the history and compared
with it, and a run that stands in both is read once. So it can be run again, and beside itself: two
that fold the same runs write the same file, or two that hold the same run.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history import parquet, parquet_writing
from pytest_vlmlatency.history.checked_runs import Gone, Unreadable
from pytest_vlmlatency.history.store import file_of, files_of, parquet_files, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.history.checked_runs import Plain
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.store import Store

RUNS_PER_FILE = 500
MANY_SMALL_FILES = 8
SMALL_FILE_RUNS = 250


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
    twice = [name for name in old if name in store.folded]
    n_folded = _remove_what_is_folded(store, twice, problems)
    for names in _batches([name for name in old if name not in store.folded], RUNS_PER_FILE):
        n_folded += _fold(store, names, problems)
        if report is not None:
            report(f"{n_folded} of {len(old)} runs are in Parquet")
    n_joined = _join_small_files(store, problems)
    return Compacted(n_folded=n_folded, n_joined=n_joined, problems=tuple(problems))


def _fold(store: Store, names: Sequence[RunName], problems: list[str]) -> int:
    """Fold runs into one file, verify it and remove their own; return how many runs it holds."""
    expected: dict[RunName, int] = {}
    with parquet_writing.Rows() as rows:
        for name, content in store.contents(files_of(names)):
            try:
                counted = _Counted(parquet.rows_of(name, readable(content)))
                rows.add(counted)
                expected[name] = counted.number
            except Gone:
                continue  # another compaction was quicker
            except Unreadable as problem:
                problems.append(f"{name.text}: {problem}")
            finally:
                del content  # before the next file is read, and before all are written
        if not expected:
            return 0
        path = rows.write(store.place, list(expected))
    return _verify_and_remove(store, path, expected, problems)


def _remove_what_is_folded(store: Store, names: Sequence[RunName], problems: list[str]) -> int:
    """Remove own files of runs that stand in Parquet already: an earlier compaction was stopped."""
    by_path: dict[str, dict[RunName, int]] = {}
    for name, content in store.contents(files_of(names)):
        with suppress(Unreadable):
            counted = _Counted(parquet.rows_of(name, readable(content)))
            for _row in counted:
                pass
            by_path.setdefault(store.folded[name], {})[name] = counted.number
        del content  # before the next file is read
    return sum(_verify_and_remove(store, path, runs, problems) for path, runs in by_path.items())


class _Counted:
    """The rows of a run, and the sum of their numbers, complete after the last row."""

    def __init__(self, rows: Iterable[Plain]) -> None:
        self.number = 0
        self._rows = rows

    def __iter__(self) -> Iterator[Plain]:
        for row in self._rows:
            self.number += parquet.number_of(row)
            yield row


def _verify_and_remove(
    store: Store, path: str, expected: Mapping[RunName, int], problems: list[str]
) -> int:
    """Remove the own files of runs that a Parquet file, as it is now, gives back unchanged.

    Return how many; the own file of a run that it does not give back stays, and is named.
    """
    n_removed = 0
    try:
        numbers = parquet.numbers(store.place, path)
    except Gone:
        return 0  # joined to others by a compaction beside this one; the next time will do
    except Unreadable as problem:
        problems.append(f"{path} cannot be verified: {problem}")
        return 0
    for name, number in expected.items():
        if numbers.get(name.text) != number:
            problems.append(
                f"{path} does not give back {name.text} as it was written: its own file stays"
            )
            continue
        store.place.remove(file_of(name))
        n_removed += 1
    return n_removed


def _join_small_files(store: Store, problems: list[str]) -> int:
    """Join small Parquet files once there are many; return how many became one."""
    try:
        held, unread = parquet.names_in(store.place, parquet_files(store.place))
    except Gone:
        return 0  # a compaction beside this one is at it
    problems += unread
    small = {path: names for path, names in held.items() if len(names) < SMALL_FILE_RUNS}
    if len(small) < MANY_SMALL_FILES:
        return 0
    try:
        joined = parquet_writing.join(store.place, small)
    except HistoryProblem as problem:
        if set(small) <= set(parquet_files(store.place)):
            problems.append(str(problem))
        return 0  # as above
    return sum(
        1 if path == joined else _remove_joined(store, path, joined, problems) for path in small
    )


def _remove_joined(store: Store, path: str, joined: str, problems: list[str]) -> int:
    """Remove a Parquet file if another one, as it is now, holds all of it; return 1 if so."""
    try:
        n_missing = parquet_writing.rows_missing(store.place, path, joined)
    except parquet.UNREADABLE as problem:
        if path in parquet_files(store.place):
            problems.append(f"{path} stays beside {joined}: {problem}")
        return 0  # removed by another compaction, which had verified it
    if n_missing:
        problems.append(f"{joined} lacks {n_missing} rows of {path}, which stays")
        return 0
    store.place.remove(path)
    return 1


def _batches(names: Sequence[RunName], size: int) -> Iterator[Sequence[RunName]]:
    return (names[start : start + size] for start in range(0, len(names), size))
