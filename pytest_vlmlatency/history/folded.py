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
UNREADABLE = (duckdb.Error, OSError)  # the second from fsspec, by way of DuckDB
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
                found[path] = _names(connection, place.whole_path(path))
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
            try:
                rows = _rows(connection, place.whole_path(path), names, columns)
                with form_of_a_run():
                    found |= _runs(rows, names)
            except Unreadable as problem:
                found |= dict.fromkeys(names, _gone(place, path) or problem)
    return found


def read_plain(place: Place, path: str, name: RunName) -> Plain:
    """Return a run's plain values, as its own file held them."""
    return read_plains(place, path, [name])[name]


def read_plains(place: Place, path: str, names: Sequence[RunName]) -> dict[RunName, Plain]:
    """Return the plain values of some runs of one file, as their own files held them."""
    try:
        with closing(connect(place)) as connection:
            columns = "name, header, case_index, whole"
            rows = _rows(connection, place.whole_path(path), names, columns)
    except Unreadable:
        _raise_if_gone(place, path)
        raise
    by_text: dict[str, list[tuple[Any, ...]]] = {}
    for text, *row in rows:
        by_text.setdefault(text, []).append(tuple(row))
    if len(by_text) != len(set(names)):
        raise Unreadable(f"{path} has not all of the runs that it names")
    return {name: _plain_of(by_text[name.text]) for name in names}


def _plain_of(rows: Sequence[tuple[Any, ...]]) -> Plain:
    """Return a run's plain values from its rows of header, case_index and whole, in order."""
    header: Plain = json.loads(rows[0][0])
    return upgraded({**header, "cases": [json.loads(whole) for _, _, whole in rows[1:]]})


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


def _names(connection: duckdb.DuckDBPyConnection, whole_path: str) -> tuple[RunName, ...]:
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
    names = [parse_name(text) for text in json.loads(metadata["names"])]
    return tuple(name for name in names if name is not None)


def _rows(
    connection: duckdb.DuckDBPyConnection, whole_path: str, names: Sequence[RunName], columns: str
) -> list[tuple[Any, ...]]:
    """Return the rows of some runs, by run, the header of each before its cases."""
    texts = sorted(name.text for name in names)  # of a pattern without quotes
    listed = ", ".join(f"'{text}'" for text in texts)
    query = (
        f"SELECT {columns} FROM read_parquet(?) WHERE name BETWEEN ? AND ? AND name IN ({listed}) "
        f"ORDER BY name, case_index NULLS FIRST"
    )
    try:
        return connection.execute(query, [whole_path, texts[0], texts[-1]]).fetchall()
    except UNREADABLE as problem:
        raise Unreadable(f"its Parquet file cannot be read: {problem}") from None


def _runs(
    rows: Sequence[tuple[Any, ...]], names: Sequence[RunName]
) -> dict[RunName, RunRounds | Unreadable]:
    by_text = {name.text: name for name in names}
    headers: dict[str, Plain] = {}
    cases: dict[str, list[Rounds]] = {}
    for text, header, case_index, times_ms, slim in rows:
        if case_index is None:
            headers[text] = json.loads(header)
            cases[text] = []
        elif times_ms is not None:
            cases[text].append(slim_rounds(json.loads(slim), times_ms))
    return {
        by_text[text]: RunRounds(header=header_of(header), cases=tuple(cases[text]))
        for text, header in headers.items()
    }


def _text(plain: Plain) -> str:
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))
