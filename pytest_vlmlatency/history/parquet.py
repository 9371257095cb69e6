"""Runs folded into Parquet: what stands in such a file, and how DuckDB reads it.

A file is immutable and named by what it holds. It has a row for each run (its header) and one for
each case: the round times as lists, for judging and for queries, and the case whole as JSON, so
that nothing of a run is lost. The names of all runs stand in its metadata: an index reads no row.
DuckDB reads folders itself, and anything else by way of fsspec.

A damaged byte is found before a number is believed. The file's name ends with the digest of its
bytes, which is checked for a folder of this machine before DuckDB parses them: damaged Parquet can
crash it. Each row has a digest of what is judged, and the header that of the whole run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import duckdb

from pytest_vlmlatency.history.checked_runs import (
    CaseSummary,
    Gone,
    Plain,
    RunSummary,
    Unreadable,
    checked,
    form_of_a_run,
    header_of,
    rounds_of_case,
    slim_rounds,
    upgraded,
    was_measured,
)
from pytest_vlmlatency.history.names import RunName, parse_name
from pytest_vlmlatency.history.places import COMPACTED, Folder
from pytest_vlmlatency.history.streamed import pieces_of
from pytest_vlmlatency.records import DIGEST, N_DIGEST_DIGITS, TOTAL, Rounds, RunDigest, RunRounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_vlmlatency.history.places import Place


FORMAT = "vlmlatency-runs-2"
FORMATS = ("vlmlatency-runs-1", FORMAT)
"""What this version reads: the rows below; 1 had no digests."""
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
    "digest": "VARCHAR",
}
ROWS = (
    "(SELECT NULL::VARCHAR AS digest WHERE false UNION ALL BY NAME SELECT * FROM read_parquet({}))"
)
"""The rows of a file of any format, in SQL."""
JUDGED = "name, header, case_index, times_ms, slim, digest"
N_CASES = "n_cases"
"""In a header: how many rows of cases follow."""
N_DIGITS = 16  # of a digest in a file's name
_DIGEST_IN_NAME = re.compile(rf"_[0-9a-f]{{16}}_([0-9a-f]{{{N_DIGITS}}})\.parquet")
ROWS_AT_ONCE = 100
SUMMARIES_AT_ONCE = 2_000
_TOTALS_MS = f"map_extract(times_ms, '{TOTAL}')[1]"
UNREADABLE = (duckdb.Error, OSError, ValueError, OverflowError, MemoryError)
"""What reading a damaged file raises: DuckDB, fsspec, and making Python's values of its values."""
# No extension is fetched from anywhere: Parquet and JSON are built in.
CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # Rows of thousands of cases fill the memory otherwise: a group of rows for each thread, and all
    # groups that wait for their turn. One thread keeps the order of rows, and every query sorts.
    "threads": "1",
    "preserve_insertion_order": "false",
}


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
                texts = _names(connection, checked_path(place, path))
                named = {text: parse_name(text) for text in texts}
                problems += [
                    f"{path}: {text!r:.80} names no run" for text in named if not named[text]
                ]
                found[path] = tuple(name for name in named.values() if name is not None)
            except Unreadable as problem:
                _raise_if_gone(place, path)
                problems.append(f"{path}: {problem}")
    return found, problems


def digest_of_content(content: bytes) -> str:
    """Return the digest that the name of a Parquet file ends with."""
    return hashlib.sha256(content).hexdigest()[:N_DIGITS]


def checked_path(place: Place, path: str) -> str:
    """Return where DuckDB finds a file; Unreadable if its bytes are not those of its name.

    Of a place that is not a folder of this machine no file is fetched for that: its rows have
    digests of their own.
    """
    whole_path = place.whole_path(path)
    expected = _DIGEST_IN_NAME.search(path)
    if expected is None or not isinstance(place, Folder):
        return whole_path
    file = place.folder / path
    try:
        stood = file.stat()
        digest = _digest_of_file(file, stood.st_size, stood.st_mtime_ns, stood.st_ino)
    except OSError as problem:
        raise Unreadable(f"its Parquet file cannot be read: {problem}") from None
    if digest != expected[1]:
        raise Unreadable("its Parquet file is damaged: its digest is not the one in its name")
    return whole_path


@lru_cache(maxsize=4096)
def _digest_of_file(file: Path, _size: int, _mtime_ns: int, _inode: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:N_DIGITS]


def read_rounds(
    place: Place, paths: Mapping[RunName, str]
) -> dict[RunName, RunRounds | Unreadable]:
    """Return runs as they are judged, by name, each from the file that has it."""
    found: dict[RunName, RunRounds | Unreadable] = {}
    with closing(connect(place)) as connection:
        for path in dict.fromkeys(paths.values()):
            names = [name for name, of_it in paths.items() if of_it == path]
            rows = _rows_in(connection, place, path, names, JUDGED)
            for name in names:
                found[name] = _rounds_of(rows[name], name)
            if any(isinstance(rows[name], Unreadable) for name in names) and _gone(place, path):
                found |= dict.fromkeys(names, Gone(f"{path} is not there (any more)"))
    return found


def has_digest(path: str) -> bool:
    """Whether a Parquet file's name ends with the digest of its bytes (format 2)."""
    return _DIGEST_IN_NAME.search(path) is not None


def read_summaries(folder: Folder, path: str, names: Sequence[RunName]) -> dict[str, RunSummary]:
    """Return the summaries of some runs of a file by the text of the name; others are left out.

    One query, without the checks of each row: the file's digest covers them, which must be in its
    name. Raises Unreadable if the bytes are not those of the name.
    """
    texts = sorted(name.text for name in names)
    query = (
        f"SELECT name, header->>'started_at', header->'commit'->>'branch', case_id, case_name, "
        f"device, measure, len({_TOTALS_MS}), list_median({_TOTALS_MS}) FROM {ROWS.format('?')} "
        f"WHERE name BETWEEN ? AND ? AND (case_index IS NULL OR times_ms IS NOT NULL) "
        f"ORDER BY name, case_index NULLS FIRST"
    )
    wanted = set(texts)
    headers: dict[str, tuple[str, str | None]] = {}
    cases: dict[str, list[CaseSummary]] = {}
    with closing(connect(folder)) as connection:
        try:
            answer = connection.execute(query, [checked_path(folder, path), texts[0], texts[-1]])
            while rows := answer.fetchmany(SUMMARIES_AT_ONCE):
                for name, started_at, branch, case_id, *case in rows:
                    if name not in wanted:
                        continue
                    if case_id is None:
                        headers[name] = started_at, branch
                        cases[name] = []
                    else:
                        cases[name].append(_case_summary(case_id, *case))
        except (*UNREADABLE, KeyError) as problem:
            raise Unreadable(f"its Parquet file cannot be read: {problem}") from None
    return {
        name: RunSummary(started_at=started_at, branch=branch, cases=tuple(cases[name]))
        for name, (started_at, branch) in headers.items()
    }


def _case_summary(
    case_id: str, name: str, device: str, measure: str, n_rounds: int, median_ms: float
) -> CaseSummary:
    return CaseSummary(
        id=case_id,
        name=name,
        device=device,
        measure=measure,
        n_rounds=n_rounds,
        median_total_ms=median_ms,
    )


def near(place: Place, path: str, scratch: Folder) -> Folder:
    """Return a folder of this machine that has a file, fetched if it lies elsewhere."""
    if isinstance(place, Folder):
        return place
    content = place.read([path])[path]
    if isinstance(content, bytes):
        scratch.write(path, content)
    return scratch


def read_plain(place: Place, path: str, name: RunName) -> Plain:
    """Return a run's plain values, as its own file held them."""
    with closing(connect(place)) as connection:
        columns = "name, header, case_index, whole"
        rows = _rows_in(connection, place, path, [name], columns)[name]
    if isinstance(rows, Unreadable):
        _raise_if_gone(place, path)
        raise rows
    with form_of_a_run():
        (_, header, _, _), *cases = _in_order(rows)
        plain = {**json.loads(header), "cases": [json.loads(whole) for *_, whole in cases]}
        plain.pop(N_CASES, None)
        return checked(upgraded(plain), name)


def _rounds_of(rows: Rows | Unreadable, name: RunName) -> RunRounds | Unreadable:
    """Return a run as it is judged, from its rows of `JUDGED`."""
    if isinstance(rows, Unreadable):
        return rows
    try:
        with form_of_a_run():
            (_, header, *_), *cases = _in_order(rows)
            plain = checked(json.loads(header), name)
            _check_digests(rows, plain)
            measured = [
                (times, slim) for *_, times, slim, _ in cases if (times, slim) != (None,) * 2
            ]
            return RunRounds(
                header=header_of(plain),
                cases=tuple(slim_rounds(json.loads(slim), times) for times, slim in measured),
            )
    except Unreadable as problem:
        return problem


def _check_digests(rows: Rows, header: Plain) -> None:
    """Raise Unreadable for rows of another content or number than was written.

    Format 1 had neither the digests nor the number.
    """
    if N_CASES not in header and all(row[-1] is None for row in rows):
        return
    if any(digest != digest_of_row(*judged) for *judged, digest in rows):
        raise Unreadable("damaged: a row's digest is another than that of its content")
    if header.get(N_CASES) != len(rows) - 1:
        raise Unreadable(f"damaged: {len(rows) - 1} cases are there, of {header.get(N_CASES)}")


def _in_order(rows: Rows) -> Rows:
    """Return a run's rows if its header is first and its cases are numbered without a gap."""
    if [index for _, _, index, *_ in rows] != [None, *range(len(rows) - 1)]:
        raise ValueError(f"its {len(rows)} rows are not a header and all of its cases")
    return rows


def rows_of(name: RunName, content: bytes) -> Iterator[Plain]:
    """Yield a run's rows from its file's content: its cases, a case at a time, then its header.

    Cases that were not measured have no times. Unreadable may come after some rows.
    """
    digest = RunDigest()
    n_cases = 0
    for is_case, piece in pieces_of(content):
        with form_of_a_run():
            if is_case:
                digest.add_case(piece)
                yield _signed(_row_of(name, n_cases, piece))
                n_cases += 1
            else:
                plain = checked(piece, name)
                header = plain | {DIGEST: digest.digits(plain), N_CASES: n_cases}
                yield _signed({"name": name.text, "header": _text(header)})


def _row_of(name: RunName, index: int, case: Plain) -> Plain:
    row = {
        "name": name.text,
        "case_index": index,
        "case_id": case["id"],
        "case_name": case["name"],
        "device": case["device"],
        "whole": _text(case),
    }
    return row | _judged(rounds_of_case(case)) if was_measured(case) else row


def _signed(row: Plain) -> Plain:
    judged = ("name", "header", "case_index", "times_ms", "slim")
    return row | {DIGEST: digest_of_row(*map(row.get, judged))}


def digest_of_row(
    name: object, header: object, case_index: object, times_ms: object, slim: object
) -> str:
    """Return the digest of what is judged of a row."""
    times = None
    if isinstance(times_ms, Mapping):
        times = {phase: [float(time_ms) for time_ms in of] for phase, of in times_ms.items()}
    text = json.dumps([name, header, case_index, times, slim], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:N_DIGEST_DIGITS]


def number_of(row: Mapping[str, Any]) -> int:
    """Return a number of all that a row holds; those of a run's rows are added in any order."""
    values = [row.get(column) for column in COLUMNS]
    times = row.get("times_ms")
    if isinstance(times, Mapping):
        values.append({name: [float(time_ms) for time_ms in of] for name, of in times.items()})
    values[list(COLUMNS).index("times_ms")] = None
    text = json.dumps(values, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def numbers(place: Place, path: str) -> dict[str, int]:
    """Return the sum of the numbers of each run's rows in a file, by the run's name."""
    found: dict[str, int] = {}
    query = f"SELECT {', '.join(COLUMNS)} FROM {ROWS.format('?')}"
    with closing(connect(place)) as connection:
        try:
            answer = connection.execute(query, [checked_path(place, path)])
            while rows := answer.fetchmany(ROWS_AT_ONCE):
                for row in rows:
                    held = dict(zip(COLUMNS, row, strict=True))
                    found[held["name"]] = found.get(held["name"], 0) + number_of(held)
        except UNREADABLE as problem:
            _raise_if_gone(place, path)
            raise Unreadable(f"{path} cannot be read: {problem}") from None
    return found


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
    if metadata.get("format") not in FORMATS:
        raise Unreadable(
            f"not of this format: it says {metadata.get('format')!r}, expected {FORMAT!r}; "
            f"a newer pytest-vlmlatency may read it"
        )
    with form_of_a_run():
        names: list[str] = json.loads(metadata["names"])
        return tuple(map(str, names))


def _rows_in(
    connection: duckdb.DuckDBPyConnection,
    place: Place,
    path: str,
    names: Sequence[RunName],
    columns: str,
) -> dict[RunName, Rows | Unreadable]:
    """Return the rows of some runs of a file, or for each why they cannot be read."""
    try:
        return _rows(connection, checked_path(place, path), names, columns)
    except Unreadable as problem:
        return dict.fromkeys(names, problem)


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
        f"SELECT {columns} FROM {ROWS.format('?')} "
        f"WHERE name BETWEEN ? AND ? AND name IN ({listed}) "
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
