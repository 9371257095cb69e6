"""Files that older versions wrote stay readable. They are real: no file here was written by hand.

`run_schema_1.json` was written by the last version before schema 2, `run_schema_2.json` and
`compacted_format_1.parquet` (both of these runs, compacted) by the first version that had them, and
so `run_schema_3.json` and `compacted_format_2.parquet` (that run, compacted).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_vlmlatency.history.checked_runs import parse, rounds_of_run
from pytest_vlmlatency.history.run_files import whole_run
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.records import SCHEMA_VERSION, GateTerms, run_rounds_of

GOLDEN = Path(__file__).parent / "golden"
IDS = {1: "6a0c9795d6671b8f", 2: "0ed34058d02cb0b6", 3: "0adefc2292af805e"}
TOTALS_MS = {
    1: (22.836609, 24.168946, 23.521206),
    2: (21.734895, 22.413866, 22.926746),
    3: (10.016757, 10.379364, 11.072186),
}
NAMES = {1: "compacted_format_1.parquet", 2: "one_450642e73898fc27_f5d0c499cef52f42.parquet"}
"""Of Parquet files by their format, in a history; from the second on, with the file's digest."""


def content_of(schema: int) -> bytes:
    return (GOLDEN / f"run_schema_{schema}.json").read_bytes()


def test_there_is_a_file_of_each_schema() -> None:
    schemas = [int(path.stem.rpartition("_")[2]) for path in GOLDEN.glob("run_schema_*.json")]

    assert sorted(schemas) == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_a_run_of_an_older_version_is_read_whole_and_as_it_is_judged(schema: int) -> None:
    plain = parse(content_of(schema))

    run = whole_run(plain)

    assert (run.id, run.schema_version) == (IDS[schema], SCHEMA_VERSION)
    assert rounds_of_run(plain) == run_rounds_of(run)
    (case,) = rounds_of_run(plain).cases
    assert (case.case_id, case.measure) == ("test_caption.py::test_caption", "cpu_ms")
    assert case.times_ms["total"] == TOTALS_MS[schema]
    assert set(case.times_ms) == {"vision", "prefill", "decode", "other", "total"}
    assert case.terms == GateTerms()


@pytest.mark.parametrize(("number", "schemas"), [(1, (1, 2)), (2, (3,))])
def test_a_parquet_file_of_an_older_version_holds_the_same_runs(
    tmp_path: Path, number: int, schemas: tuple[int, ...]
) -> None:
    (tmp_path / "compacted").mkdir()
    shutil.copy(
        GOLDEN / f"compacted_format_{number}.parquet", tmp_path / "compacted" / NAMES[number]
    )
    store = open_store(tmp_path)

    index = store.index()

    runs = [whole_run(parse(content_of(schema))) for schema in schemas]
    assert index.problems == ()
    assert store.read(index.names).runs == tuple(run_rounds_of(run) for run in runs)
    assert [store.read_whole(name) for name in index.names] == runs
