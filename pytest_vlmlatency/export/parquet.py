"""Records as Parquet, by DuckDB: rows in, rows out, never all of them in memory."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export.fields import (
    CONFIGURATION,
    COUNTS,
    FURTHER,
    PARQUET_TYPES,
    TIMES,
)
from pytest_vlmlatency.export.files import parsed
from pytest_vlmlatency.export.refusal import Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_vlmlatency.export.fields import Record
    from pytest_vlmlatency.export.files import Found

FORMAT = "vlmlatency-records-1"
N_ROWS = 2048  # DuckDB's own piece of work
COLUMNS = {**PARQUET_TYPES, CONFIGURATION: "VARCHAR", FURTHER: "VARCHAR"}
# No extension is fetched from anywhere: Parquet and JSON are built in.
CONFIG = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}


def rows_of(path: Path, name: str) -> Iterator[Found]:
    """Yield the rows of a file as records; Refused if it is none, or of something else."""
    with closing(duckdb.connect(config=dict(CONFIG))) as connection:
        try:
            relation = connection.execute("SELECT * FROM read_parquet(?)", [_literal(path)])
            columns = [column[0] for column in relation.description]
            if not {*COUNTS, *TIMES}.intersection(columns):
                held = ", ".join(ascii(column) for column in columns[:3])
                raise Refused(Reason.FOREIGN, f"its columns are {held}, ...: no records")
            number = 0
            while rows := relation.fetchmany(N_ROWS):
                for row in rows:
                    yield f"{name}, row {number}", _record_of(dict(zip(columns, row, strict=True)))
                    number += 1
        except (duckdb.Error, OSError, ValueError, OverflowError) as problem:
            line = str(problem).encode("ascii", "backslashreplace").decode().splitlines()
            raise Refused(Reason.UNREADABLE, f"no whole Parquet file: {line[0][:200]}") from None


def write_rows(lines: Path, path: Path, *, longest_bytes: int) -> None:
    """Turn JSON Lines, one row of `row_of` each, into a Parquet file."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    size = max(16 * 2**20, 2 * longest_bytes)  # DuckDB's default, or what is needed
    with closing(duckdb.connect(config=dict(CONFIG))) as connection:
        try:
            connection.execute(
                f"COPY (SELECT * FROM read_json('{_quoted(lines)}', format='newline_delimited', "
                f"columns={{{columns}}}, maximum_object_size={size})) TO '{_quoted(path)}' "
                f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{format: '{FORMAT}'}})"
            )
        except duckdb.Error as problem:  # a text that is no Unicode, or a full disk
            raise RecordsProblem(
                f"the records cannot be written as Parquet: {ascii(str(problem))[:300]}; write "
                f".jsonl to see whether it is what they hold"
            ) from problem


def row_of(record: Record) -> dict[str, object]:
    """Return a record as a row: its columns, and the rest as JSON."""
    row = {name: record.get(name) for name in PARQUET_TYPES}
    further = {
        name: value
        for name, value in record.items()
        if name not in PARQUET_TYPES and name not in (CONFIGURATION, "T_prefill_total", "tier_idx")
    }
    return {
        **row,
        CONFIGURATION: json.dumps(record.get(CONFIGURATION) or {}, allow_nan=False),
        FURTHER: json.dumps(further, allow_nan=False) if further else None,
    }


def _record_of(row: dict[str, object]) -> object:
    """Return a row as a record: unknown fields (NULL) absent, JSON columns as what they hold."""
    record = {name: value for name, value in row.items() if value is not None}
    try:
        for name in (CONFIGURATION, FURTHER):
            if isinstance(record.get(name), str):
                record[name] = parsed(str(record[name]).encode("utf-8", "surrogatepass"))
    except Refused as problem:
        return Refused(problem.reason, f"{name}: {problem.seen}")
    further = record.pop(FURTHER, {})
    if not isinstance(further, dict):
        return Refused(Reason.WRONG_TYPE, f"{FURTHER} is no object of fields")
    return {**further, **record}


def _literal(path: Path) -> str:
    """Return a path that DuckDB takes for one file: its pattern letters are escaped."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path))


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
