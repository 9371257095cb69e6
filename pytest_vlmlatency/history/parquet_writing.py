"""Writing runs into a Parquet file: rows by way of a scratch folder, then one write to the place.

Owns how such a file is made and named; what stands in it is `folded`'s, and which runs go into
which file, and when their own files may go, is `compaction`'s.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, closing
from glob import escape
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.parquet import (
    COLUMNS,
    FORMAT,
    ROWS,
    UNREADABLE,
    checked_path,
    connect,
    digest_of_content,
)
from pytest_vlmlatency.history.places import COMPACTED
from pytest_vlmlatency.whole_files import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import duckdb

    from pytest_vlmlatency.history.checked_runs import Plain
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.places import Place


ROWS_PER_GROUP = 2048  # DuckDB's least: a few dozen runs are read without the others
BYTES_PER_GROUP = 16_000_000  # of large rows there are fewer: a group is held in memory whole
LEAST_OBJECT_BYTES = 16 * 2**20  # DuckDB's own default for one line of JSON


def path_of(names: Sequence[RunName], content: bytes) -> str:
    """Return the path of the file that holds these runs and no others, in these bytes."""
    digest = hashlib.sha256("\n".join(name.text for name in names).encode()).hexdigest()[:16]
    held = f"{names[0].time}_{names[-1].time}_{len(names)}" if names else "none"
    return f"{COMPACTED}/{held}_{digest}_{digest_of_content(content)}.parquet"


class Rows:
    """Rows on their way into a Parquet file, in a scratch folder: `with Rows() as rows`."""

    def __init__(self) -> None:
        self._held = ExitStack()
        folder = self._held.enter_context(scratch_folder())
        self._lines, self._parquet = folder / "rows.jsonl", folder / "rows.parquet"
        self._longest_bytes = 0
        self._file = self._lines.open("wb")

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()
        self._held.close()

    def add(self, rows: Iterable[Plain]) -> None:
        """Add the rows of one run, or none if they end in an error; runs come in their order."""
        start = self._file.tell()
        try:
            for row in rows:
                line = json.dumps(row, allow_nan=False).encode()
                self._longest_bytes = max(self._longest_bytes, len(line))
                self._file.write(line + b"\n")
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise

    def write(self, place: Place, names: Sequence[RunName]) -> str:
        """Write the rows into a file of the place, whole or not at all; return its path."""
        self._file.flush()
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        size = max(LEAST_OBJECT_BYTES, 2 * self._longest_bytes)
        source = (
            f"SELECT * FROM read_json({_literal(escape(str(self._lines)))}, "
            f"format='newline_delimited', columns={{{columns}}}, maximum_object_size={size})"
        )
        with closing(connect()) as connection:
            _copy(connection, source, names, self._parquet)
        content = self._parquet.read_bytes()
        path = path_of(names, content)
        place.write(path, content)
        return path


def join(place: Place, names_by_path: Mapping[str, Sequence[RunName]]) -> str:
    """Write the runs of several Parquet files into one, each run once; return its path."""
    names = sorted({name for of_file in names_by_path.values() for name in of_file})
    taken: set[RunName] = set()
    parts = []
    for path, of_file in sorted(names_by_path.items()):
        new = [name.text for name in of_file if name not in taken]
        taken.update(of_file)
        listed = ", ".join(f"'{text}'" for text in new)
        rows = ROWS.format(_literal(checked_path(place, path)))
        if new:
            parts.append(f"SELECT {', '.join(COLUMNS)} FROM {rows} WHERE name IN ({listed})")
    with scratch_folder() as scratch, closing(connect(place)) as connection:
        draft = scratch / "rows.parquet"
        _copy(connection, " UNION ALL ".join(parts), names, draft)
        content = draft.read_bytes()
        path = path_of(names, content)
        place.write(path, content)
    return path


def rows_missing(place: Place, old: str, new: str) -> int:
    """Return how many rows of one Parquet file another one lacks, or has with other values."""
    texts = "header, whole, slim, times_ms::VARCHAR"
    rows = "SELECT name, case_index, md5(concat_ws(chr(0), " + texts + f")) FROM {ROWS.format('?')}"
    query = f"SELECT count(*) FROM ({rows} EXCEPT {rows})"
    with closing(connect(place)) as connection:
        found = connection.execute(
            query, [checked_path(place, old), checked_path(place, new)]
        ).fetchone()
    assert found is not None, "a count has one row"
    return int(found[0])


def _copy(
    connection: duckdb.DuckDBPyConnection, source: str, names: Sequence[RunName], target: Path
) -> None:
    listed = json.dumps([name.text for name in names])
    try:
        connection.execute(
            f"COPY ({source}) TO {_literal(str(target))} (FORMAT parquet, COMPRESSION zstd, "
            f"ROW_GROUP_SIZE {ROWS_PER_GROUP}, ROW_GROUP_SIZE_BYTES {BYTES_PER_GROUP}, "
            f"KV_METADATA {{format: '{FORMAT}', names: '{listed}'}})"
        )
    except UNREADABLE as problem:
        raise HistoryProblem(f"{len(names)} runs could not be compacted: {problem}") from problem


def _literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    quoted = text.replace("'", "''")
    return f"'{quoted}'"
