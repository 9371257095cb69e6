"""Runs folded into Parquet: what stands in such a file, and how DuckDB reads it.

A file is immutable and named by what it holds. It has a row for each run (its header) and one for
each case: the round times as lists, for judging and for queries, and the case whole as JSON, so
that nothing of a run is lost. The names of all runs stand in its metadata: an index reads no row.
DuckDB reads folders itself, and anything else by way of fsspec.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb

from pytest_vlmlatency.history.names import RunName, parse_name
from pytest_vlmlatency.history.places import COMPACTED
from pytest_vlmlatency.history.slim import (
    Gone,
    Plain,
    Unreadable,
    checked,
    form_of_a_run,
    header_of,
    slim_rounds,
    upgraded,
    was_measured,
)
from pytest_vlmlatency.records import Rounds, RunRounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_vlmlatency.history.places import Place

FORMAT = "vlmlatency-runs-1"
"""Of the rows below; another number is a file that this version cannot read."""
Rows = list[tuple[Any, ...]]
COLUMNS = {
    "name": "VARCHAR",
    "header": "VARCHAR",
    "case_index": "INTEGER",
    "case_id": "VARCHAR",
    "case_name": "VARCHAR",
    "device": "VARCHAR",
    "measure": "VARCHAR",
    "times_ms": "MAP(VARCHAR, DOUBLE[])",
    "slim": "VARCHAR",
    "whole": "VARCHAR",
}
SEPARATOR = chr(31)  # JSON escapes it
UNREADABLE = (duckdb.Error, OSError, ValueError, OverflowError, MemoryError)
"""What reading a damaged file raises: DuckDB, fsspec, and making Python's values of its values."""
# No extension is fetched from anywhere: Parquet and JSON are built in.
CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


def connect(place: Place | None = None, database: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB of its own, in memory or a file, that reaches the files of a place."""
    connection = duckdb.connect(database or ":memory:", config=dict(CONFIG))
    if place is not None and place.file_system is not None:
        connection.register_filesystem(place.file_system)
    return connection


def names_in(
    place: Place, paths: Sequence[str]
) -> tuple[dict[str, tuple[RunName, ...]], list[str]]:
    """Return the names of the runs in each Parquet file, and the files that are none of ours.

    Raises Gone if one is not there (any more): what it held stands in another one by now.
    """
    found: dict[str, tuple[RunName, ...]] = {}
    problems = []
    with closing(connect(place)) as connection:
        for path in paths:
            try:
                texts = _names(connection, place.whole_path(path))
                named = {text: parse_name(text) for text in texts}
                problems += [
                    f"{path}: {text!r:.80} names no run" for text in named if not named[text]
                ]
                found[path] = tuple(name for name in named.values() if name is not None)
            except Unreadable as problem:
                _raise_if_gone(place, path)
                problems.append(f"{path}: {problem}")
    return found, problems


def read_rounds(
    place: Place, paths: Mapping[RunName, str]
) -> dict[RunName, RunRounds | Unreadable]:
    """Return runs as they are judged, by name, each from the file that has it."""
    found: dict[RunName, RunRounds | Unreadable] = {}
    with closing(connect(place)) as connection:
        for path in dict.fromkeys(paths.values()):
            names = [name for name, of_it in paths.items() if of_it == path]
            columns = "name, header, case_index, times_ms, slim"
            rows = _rows(connection, place.whole_path(path), names, columns)
            for name in names:
                found[name] = _rounds_of(rows[name], name)
            if any(isinstance(rows[name], Unreadable) for name in names) and _gone(place, path):
                found |= dict.fromkeys(names, Gone(f"{path} is not there (any more)"))
    return found


def read_plain(place: Place, path: str, name: RunName) -> Plain:
    """Return a run's plain values, as its own file held them."""
    with closing(connect(place)) as connection:
        columns = "name, header, case_index, whole"
        rows = _rows(connection, place.whole_path(path), [name], columns)[name]
    if isinstance(rows, Unreadable):
        _raise_if_gone(place, path)
        raise rows
    with form_of_a_run():
        (_, header, _, _), *cases = _in_order(rows)
        plain = {**json.loads(header), "cases": [json.loads(whole) for *_, whole in cases]}
        return checked(upgraded(plain), name)


def _rounds_of(rows: Rows | Unreadable, name: RunName) -> RunRounds | Unreadable:
    """Return a run as it is judged from its rows of header, case_index, times_ms and slim."""
    if isinstance(rows, Unreadable):
        return rows
    try:
        with form_of_a_run():
            (_, header, *_), *cases = _in_order(rows)
            plain = checked(json.loads(header), name)
            measured = [(times, slim) for *_, times, slim in cases if (times, slim) != (None, None)]
            return RunRounds(
                header=header_of(plain),
                cases=tuple(slim_rounds(json.loads(slim), times) for times, slim in measured),
            )
    except Unreadable as problem:
        return problem


def _in_order(rows: Rows) -> Rows:
    """Return a run's rows if its header is first and its cases are numbered without a gap."""
    if [index for _, _, index, *_ in rows] != [None, *range(len(rows) - 1)]:
        raise ValueError(f"its {len(rows)} rows are not a header and all of its cases")
    return rows


def rows_of(name: RunName, plain: Plain, judged: RunRounds) -> list[Plain]:
    """Return a run's rows: its header, then its cases; those not measured have no times."""
    header = {key: value for key, value in plain.items() if key != "cases"}
    rows: list[Plain] = [{"name": name.text, "header": _text(header)}]
    rounds = iter(judged.cases)
    for index, case in enumerate(plain["cases"]):
        row = {
            "name": name.text,
            "case_index": index,
            "case_id": case["id"],
            "case_name": case["name"],
            "device": case["device"],
            "whole": _text(case),
        }
        rows.append(row | _judged(next(rounds)) if was_measured(case) else row)
    return rows


def digest_of(rows: Sequence[Plain]) -> str:
    """Return the digest of a run's texts, as `digests` finds it in a file."""
    texts = (row.get(column, "") for row in rows for column in ("header", "whole", "slim"))
    return hashlib.md5(SEPARATOR.join(texts).encode(), usedforsecurity=False).hexdigest()


def digests(place: Place, path: str) -> dict[str, str]:
    """Return the digest of the texts of each run in a file, by its name, as DuckDB reads them."""
    texts = ", ".join(f"coalesce({column}, '')" for column in ("header", "whole", "slim"))
    query = (
        f"SELECT name, md5(string_agg(concat_ws(chr(31), {texts}), chr(31) "
        f"ORDER BY case_index NULLS FIRST)) FROM read_parquet(?) GROUP BY name"
    )
    with closing(connect(place)) as connection:
        try:
            return dict(connection.execute(query, [place.whole_path(path)]).fetchall())
        except UNREADABLE as problem:
            _raise_if_gone(place, path)
            raise Unreadable(f"{path} cannot be read: {problem}") from None


def _gone(place: Place, path: str) -> Gone | None:
    """Return why a file could not be read, if it is because a compaction joined it to others."""
    return None if path in place.list(COMPACTED) else Gone(f"{path} is not there (any more)")


def _raise_if_gone(place: Place, path: str) -> None:
    gone = _gone(place, path)
    if gone is not None:
        raise gone


def _judged(rounds: Rounds) -> Plain:
    slim = {
        field: getattr(rounds, field)
        for field in Rounds.__dataclass_fields__
        if field != "times_ms"
    }
    return {
        "measure": rounds.measure,
        "times_ms": dict(rounds.times_ms),
        "slim": json.dumps(slim, default=_plain_record, allow_nan=False),
    }


def _plain_record(record: object) -> Plain:
    """Return a record within Rounds (a Workload, GateTerms) as its fields."""
    fields: Iterable[str] = getattr(record, "__dataclass_fields__")  # noqa: B009 - of any record
    return {field: getattr(record, field) for field in fields}


def _names(connection: duckdb.DuckDBPyConnection, whole_path: str) -> tuple[str, ...]:
    query = "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)"
    try:
        metadata = dict(connection.execute(query, [whole_path]).fetchall())
    except UNREADABLE as problem:
        raise Unreadable(f"no whole Parquet file: {problem}") from None
    if metadata.get("format") != FORMAT:
        raise Unreadable(
            f"not of this format: it says {metadata.get('format')!r}, expected {FORMAT!r}; "
            f"a newer pytest-vlmlatency may read it"
        )
    with form_of_a_run():
        names: list[str] = json.loads(metadata["names"])
        return tuple(map(str, names))


def _rows(
    connection: duckdb.DuckDBPyConnection, whole_path: str, names: Sequence[RunName], columns: str
) -> dict[RunName, Rows | Unreadable]:
    """Return the rows of each run, its header before its cases, or why they cannot be read.

    `columns` begin with name, header and case_index. Where a part of the file is damaged, the runs
    in its other parts are found by halves.
    """
    texts = sorted(name.text for name in names)  # of a pattern without quotes
    listed = ", ".join(f"'{text}'" for text in texts)
    query = (
        f"SELECT {columns} FROM read_parquet(?) WHERE name BETWEEN ? AND ? AND name IN ({listed}) "
        f"ORDER BY name, case_index NULLS FIRST"
    )
    try:
        found = connection.execute(query, [whole_path, texts[0], texts[-1]]).fetchall()
    except UNREADABLE as problem:
        if len(names) == 1:
            return {names[0]: Unreadable(f"its Parquet file cannot be read: {problem}")}
        half = len(names) // 2
        first = _rows(connection, whole_path, names[:half], columns)
        return first | _rows(connection, whole_path, names[half:], columns)
    by_text: dict[str, Rows] = {}
    for row in found:
        by_text.setdefault(row[0], []).append(row)
    missing = Unreadable("its Parquet file names it and does not hold it")
    return {name: by_text.get(name.text, missing) for name in names}


def _text(plain: Plain) -> str:
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))
