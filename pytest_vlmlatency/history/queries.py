"""Questions to a history in SQL: DuckDB over Parquet files and runs in files of their own alike.

Tables: `runs` (a row for each), `cases` (those that were measured) and `rounds` (a row for each
round and phase, "total" among them). All runs are loaded into a database in a temporary folder,
which is then opened to be read alone, without access to files and with its settings locked: a query
can read the tables, and nothing else.
"""

from __future__ import annotations

import csv
import io
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

import duckdb

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history import parquet, parquet_writing
from pytest_vlmlatency.history.checked_runs import Unreadable
from pytest_vlmlatency.history.places import Folder
from pytest_vlmlatency.history.store import files_of, readable
from pytest_vlmlatency.printing import printable
from pytest_vlmlatency.signals import interrupted
from pytest_vlmlatency.whole_files import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.history.places import Place
    from pytest_vlmlatency.history.store import Store

_VIEWS = """\
CREATE VIEW stored AS SELECT * FROM loaded
WHERE rowid IN (SELECT min(rowid) FROM loaded GROUP BY name, case_index);
CREATE VIEW runs AS SELECT
    name,
    header->>'id' AS id,
    CAST(header->>'started_at' AS TIMESTAMPTZ) AS started_at,
    header->'commit'->>'id' AS commit,
    header->'commit'->>'branch' AS branch,
    coalesce(CAST(header->'commit'->>'is_dirty' AS BOOLEAN), false) AS is_dirty,
    CAST(header->>'is_pull_request' AS BOOLEAN) AS is_pull_request,
    string_split(name, '_')[3] AS machine,
    header
FROM stored WHERE case_index IS NULL;
CREATE VIEW cases AS SELECT
    name, case_id, case_name, device, measure, slim, whole
FROM stored WHERE times_ms IS NOT NULL;
CREATE VIEW rounds AS SELECT
    name, case_id, case_name, device, measure, phase,
    generate_subscripts(times, 1) AS round, unnest(times) AS time_ms
FROM (
    SELECT *, unnest(map_keys(times_ms)) AS phase, unnest(map_values(times_ms)) AS times
    FROM stored WHERE times_ms IS NOT NULL
);
"""


def answer(store: Store, query: str) -> tuple[str, tuple[str, ...]]:
    """Return the answer to a query as CSV, and which runs are not in the tables because of what.

    UsageProblem has DuckDB's error for a query that it does not understand, or may not run.
    """
    with _loaded(store) as (connection, problems):
        try:
            found = cast("duckdb.DuckDBPyRelation | None", connection.sql(query))
            names = [] if found is None else found.columns
            rows = [] if found is None else _as_python_has_it(found).fetchall()
        except duckdb.Error as problem:
            raise UsageProblem(f"--sql: {problem}; tables: runs, cases, rounds") from problem
        except RuntimeError as problem:
            if "interrupted" not in str(problem):
                raise
            raise interrupted() from problem
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_shown(value) for value in row] for row in rows)
        return text.getvalue(), problems


def _as_python_has_it(found: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return an answer with times of a time zone as text: as values they need the package pytz."""
    columns = [
        f"CAST(#{number} AS VARCHAR)" if "WITH TIME ZONE" in str(kind) else f"#{number}"
        for number, kind in enumerate(found.types, start=1)
    ]
    return found.project(", ".join(columns))


def _shown(value: object) -> object:
    """Return a value as a cell shows it: what a run's file says could be an order to a terminal."""
    is_plain = value is None or isinstance(value, int | float)
    return value if is_plain else printable(str(value))


LOADING_LIMIT = "200MB"  # of memory: the tables are on a disk; a query may take what it needs
READ_ALONE = {
    **parquet.CONFIG,
    "enable_external_access": "false",
    "python_enable_replacements": "false",  # a table's name is no variable of this process
}
"""What a query runs with: no files, no network, no extensions, none of Python's variables."""


@contextmanager
def tables_of(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that has the tables; runs that cannot be read are not in them."""
    with _loaded(store) as (connection, _problems):
        yield connection


@contextmanager
def _loaded(store: Store) -> Iterator[tuple[duckdb.DuckDBPyConnection, tuple[str, ...]]]:
    """Yield a connection that has the tables, and what could not be read and is not in them."""
    problems = list(store.index().problems)
    with scratch_folder() as scratch:
        own = Folder(scratch)
        database = scratch / "history.duckdb"
        with closing(parquet.connect(database=database)) as connection:
            connection.execute(f"SET memory_limit = '{LOADING_LIMIT}'")
            columns = ", ".join(f"{name} {kind}" for name, kind in parquet.COLUMNS.items())
            connection.execute(f"CREATE TABLE loaded ({columns})")
            _load(connection, own, _own_rows(store, own, problems), problems)
            for path in sorted(set(store.folded.values())):
                _load(connection, parquet.near(store.place, path, own), path, problems)
            connection.execute(_VIEWS)
        with closing(
            duckdb.connect(database, read_only=True, config=dict(READ_ALONE))
        ) as connection:
            connection.execute("SET TimeZone = 'UTC'")  # as `vlmlatency history` shows times
            connection.execute("SET lock_configuration = true")
            yield connection, tuple(problems)


def _load(
    connection: duckdb.DuckDBPyConnection, place: Place, path: str, problems: list[str]
) -> None:
    """Load a Parquet file; one that cannot be read is added to `problems`."""
    rows = parquet.ROWS.format("?")
    try:
        connection.execute(
            f"INSERT INTO loaded SELECT {', '.join(parquet.COLUMNS)} FROM {rows}",
            [parquet.checked_path(place, path)],
        )
    except (Unreadable, *parquet.UNREADABLE) as problem:
        problems.append(f"{path}: {problem}")


def _own_rows(store: Store, scratch: Folder, problems: list[str]) -> str:
    """Write the rows of runs in files of their own into a Parquet file; return its path.

    What cannot be read is added to `problems`.
    """
    names = sorted(name for name in store.files if name not in store.folded)
    with parquet_writing.Rows() as rows:
        for name, content in store.contents(files_of(names)):
            try:
                rows.add(parquet.rows_of(name, readable(content)))
            except Unreadable as problem:
                problems.append(f"{name.text}: {problem}")
            finally:
                del content  # before the next file is read, and before all are written
        return rows.write(scratch, names)
