"""Questions to a history in SQL: DuckDB over Parquet files and runs in files of their own alike.

Tables: `runs` (a row for each), `cases` (those that were measured) and `rounds` (a row for each
round and phase, "total" among them). Runs in files of their own are read for it first: a history
of thousands answers fast once it is compacted.
"""

from __future__ import annotations

import csv
import io
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import duckdb

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history import folded, folding
from pytest_vlmlatency.history.places import Folder
from pytest_vlmlatency.history.slim import Unreadable, rounds_of_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.history.store import Store

_ROWS = """\
CREATE VIEW stored AS SELECT * EXCLUDE (nth) FROM (
    SELECT *, row_number() OVER (PARTITION BY name, case_index) AS nth FROM read_parquet({files})
) WHERE nth = 1;
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


def answer(store: Store, query: str) -> str:
    """Return the answer to a query as CSV, or raise UsageProblem with what DuckDB says of it."""
    with tables_of(store) as connection:
        try:
            found = cast("duckdb.DuckDBPyRelation | None", connection.sql(query))
            names = [] if found is None else found.columns
            rows = [] if found is None else _as_python_has_it(found).fetchall()
        except duckdb.Error as problem:
            raise UsageProblem(f"--sql: {problem}; tables: runs, cases, rounds") from problem
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        return text.getvalue()


def _as_python_has_it(found: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    """Return an answer with times of a time zone as text: as values they need the package pytz."""
    columns = [
        f"CAST(#{number} AS VARCHAR)" if "WITH TIME ZONE" in str(kind) else f"#{number}"
        for number, kind in enumerate(found.types, start=1)
    ]
    return found.project(", ".join(columns))


@contextmanager
def tables_of(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that has the tables; runs that cannot be read are not in them."""
    store.index()
    with TemporaryDirectory(prefix="vlmlatency-") as scratch:
        own = Folder(Path(scratch))
        files = [own.whole_path(_own_rows(store, own))]
        files += [store.place.whole_path(path) for path in sorted(set(store.folded.values()))]
        listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        with closing(folded.connect(store.place)) as connection:
            connection.execute("SET TimeZone = 'UTC'")  # as `vlmlatency history` shows times
            connection.execute(_ROWS.format(files=f"[{listed}]"))
            yield connection


def _own_rows(store: Store, scratch: Folder) -> str:
    """Write the rows of runs in files of their own into a Parquet file; return its path."""
    names = sorted(name for name in store.files if name not in store.folded)
    with folding.Rows() as rows:
        for name in names:
            try:
                plain = store.read_plain(name)
                rows.add(folded.rows_of(name, plain, rounds_of_run(plain)))
            except Unreadable:
                continue  # `vlmlatency history` names it
        return rows.write(scratch, names)
