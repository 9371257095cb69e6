"""Records in files, one after another, unchecked, each with the place where it was found.

JSON Lines and Parquet (by DuckDB) are read and written piece by piece; a JSON file of the legacy
format is one value and is read whole. Any other file is refused with the reason.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import duckdb

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export.fields import (
    CONFIGURATION,
    COUNTS,
    FURTHER,
    PARQUET_TYPES,
    RESULTS,
    TIMES,
    Reason,
    Refused,
    schema_version,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_vlmlatency.export.fields import Record


SUFFIXES = (".json", ".jsonl", ".parquet")
MOST_LINE_BYTES = 16 * 2**20
"""A record has a few hundred bytes; a longer line is something else, and not read into memory."""

LONGEST_SHOWN = 4096
"""The longest path of Linux: what is longer is a mistake, and not worth a screen."""

Found = tuple[str, object]
"""Where a record stands, in words, and its value; a Refused stands for what could not be read."""


def record_files(path: Path) -> list[tuple[Path, str | None]]:
    """Return the record files that a path means, in order, each with its data set by the layout.

    In a folder, `<dataset>/<configuration>.json` is the legacy layout. Hidden names are left
    alone: a file on its way is one. Linked folders are looked into.
    """
    mode = mode_of(path)
    if mode is None:
        raise RecordsProblem(
            f"there is no file or folder {shown_path(path)}; expected records that "
            f"`vlmlatency export` or `profile` wrote, or the origin's folder of results"
        )
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise RecordsProblem(f"{shown_path(path)} is neither a file nor a folder of records")
        if path.suffix not in SUFFIXES:
            raise RecordsProblem(
                f"{shown_path(path)} is no record file; expected a name that ends in "
                f"{', '.join(SUFFIXES)}, or a folder of such files"
            )
        return [(path, None)]
    files = sorted(_files_below(path))
    if not files:
        raise RecordsProblem(
            f"the folder {shown_path(path)} has no record file in it; expected names that end in "
            f"{', '.join(SUFFIXES)}"
        )
    return [(file, None if file.parent == path else file.parent.name) for file in files]


def holds_records(path: Path) -> bool:
    """Whether a path is records and no run: a folder, or a file by its name.

    A JSON file by what is in it: a list of records, or the legacy object, of which
    `per_sample_results` is a member.
    """
    try:
        mode = mode_of(path)
    except RecordsProblem:
        return False
    if mode is None or stat.S_ISDIR(mode):
        return mode is not None
    if not stat.S_ISREG(mode) or path.suffix not in SUFFIXES:
        return False
    if path.suffix != ".json":
        return True
    try:
        content = parsed(path.read_bytes())
    except (Refused, OSError):
        return False  # whoever reads it as something else says what is wrong with it
    return isinstance(content, list) or (isinstance(content, dict) and RESULTS in content)


def found_in(path: Path) -> Iterator[Found]:
    """Yield what stands in a file; what cannot be read is a Refused in its place."""
    name = shown_path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused(Reason.UNREADABLE, "it is no regular file")
        if path.suffix == ".parquet":
            yield from rows_of(path, name)
        elif path.suffix == ".jsonl":
            yield from _lines_of(path, name)
        else:
            yield from _results_of(path, name)
    except Refused as problem:
        yield name, problem
    except OSError as problem:
        yield name, Refused(Reason.UNREADABLE, problem.strerror or type(problem).__name__)


def objects_in(path: Path, *, cannot: str, advice: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what stands in a file that is to be added to, where every record has to be one.

    RecordsProblem where one is not: what it cannot be, why, and what to do.
    """
    for where, found in found_in(path):
        if isinstance(found, Refused) or not isinstance(found, dict):
            why = found.seen if isinstance(found, Refused) else "it is no record"
            raise RecordsProblem(f"{where} cannot {cannot}: {why}. {advice}")
        yield where, found


def mode_of(path: Path) -> int | None:
    """Return the mode of what is there, as `stat` has it, None where nothing is.

    RecordsProblem where that cannot be told: no permission, or a name that no disk takes.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as problem:
        why = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        raise RecordsProblem(
            f"{shown_path(path)} cannot be looked at: {why}; expected a file or a folder of records"
        ) from problem


def shown_path(path: Path | str) -> str:
    """Return a path in letters that print anywhere, its middle left out if no disk takes it."""
    text = ascii(str(path))[1:-1]
    return text if len(text) <= LONGEST_SHOWN else f"{text[:100]}...{text[-100:]}"


def parsed(text: bytes) -> object:
    """Return a JSON value; Refused if it is none, or says a field twice."""
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise Refused(Reason.UNREADABLE, "no UTF-8 text") from None
    except RecursionError:
        raise Refused(Reason.UNREADABLE, "nested too deeply for a record") from None
    except json.JSONDecodeError as problem:
        raise Refused(
            Reason.UNREADABLE, f"no whole JSON: {problem.msg} at character {problem.pos}"
        ) from None
    except ValueError as problem:  # a number of more digits than Python reads
        raise Refused(Reason.UNREADABLE, f"no JSON that can be read: {problem}") from None


def _results_of(path: Path, name: str) -> Iterator[Found]:
    content = parsed(path.read_bytes())
    results = content.get(RESULTS) if isinstance(content, dict) else content
    version = schema_version(content) if isinstance(content, dict) else None
    if not isinstance(results, list):
        seen = (
            f"an object with {', '.join(shown(key) for key in list(content)[:3]) or 'nothing'}"
            if isinstance(content, dict)
            else f"a {type(content).__name__}"
        )
        raise Refused(
            Reason.FOREIGN, f'it holds {seen}; expected {{"{RESULTS}": [...]}} or a list of records'
        )
    for index, record in enumerate(results):
        if isinstance(record, dict) and record.get("schema_version") is None and version:
            record["schema_version"] = version  # a file's version is that of its records
        yield f"{name}, record {index}", record


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield what has a record file's name below a folder, each folder once if links lead back."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        try:
            found = Path(place).stat()
        except OSError as problem:
            _refuse_folder(problem)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix in SUFFIXES:
                yield Path(place, name)


def _refuse_folder(problem: OSError) -> NoReturn:
    raise RecordsProblem(
        f"the folder {shown_path(problem.filename)} cannot be read: {problem.strerror}; expected "
        f"to be allowed to: what is in it would be missing unseen"
    ) from problem


def _lines_of(path: Path, name: str) -> Iterator[Found]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES + 1):
            number += 1
            where = f"{name}, line {number}"
            if len(line) > MOST_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MOST_LINE_BYTES)
                yield where, Refused(Reason.UNREADABLE, f"longer than {MOST_LINE_BYTES:,} bytes")
                continue
            if line.strip():
                try:
                    yield where, parsed(line)
                except Refused as problem:
                    yield where, problem


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(Reason.INCONSISTENT, f"{shown(twice)} stands twice in one object")
    return found


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
