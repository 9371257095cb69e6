"""Damaged files of a history: named and left out, never fatal, and never another number."""

from __future__ import annotations

import json
import random
import re
import shutil
from typing import TYPE_CHECKING

import duckdb
import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history import streamed
from pytest_vlmlatency.history.checked_runs import Unreadable, parse
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.run_files import whole_run
from pytest_vlmlatency.history.store import Store, file_of, open_store
from pytest_vlmlatency.history.streamed import pieces_of
from pytest_vlmlatency.plain import run_json
from pytest_vlmlatency.records import Run, run_rounds_of
from tests.cases import a_case
from tests.runs import a_run

if TYPE_CHECKING:
    from pathlib import Path

N_BYTES = 300


def a_run_of_two(number: int) -> Run:
    return a_run(number, cases=[a_case(name="test_a"), a_case(name="test_b")])


@pytest.fixture
def compacted(tmp_path: Path) -> Store:
    """Return a history of two runs in one Parquet file."""
    store = open_store(tmp_path)
    for number in (1, 2):
        store.write(a_run_of_two(number))
    compact(store)
    return open_store(tmp_path)


def parquet_of(store: Store, folder: Path) -> Path:
    (path,) = store.place.list("compacted")
    return folder / path


def test_a_changed_byte_of_a_run_is_no_other_run() -> None:
    run = a_run(1)
    whole = bytearray(run_json(run, indent=1).encode())
    draw = random.Random(1)
    others = []

    for _ in range(N_BYTES):
        at, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        whole[at] ^= bit
        try:
            read = whole_run(parse(bytes(whole)))
        except Unreadable:
            read = run
        others += [read] if read != run else []
        whole[at] ^= bit

    assert others == []


def test_a_run_that_another_program_laid_out_anew_is_the_same() -> None:
    run = a_run(1)

    laid_out = run_json(run, indent=4).replace('": ', '" :\t')
    laid_out = re.sub(r"(\d)\.0([,\n])", r"\1\2", laid_out)  # as jq and JavaScript write numbers

    assert whole_run(parse(laid_out.encode())) == run


def test_a_changed_byte_of_a_parquet_file_is_found_before_it_is_parsed(
    compacted: Store, tmp_path: Path
) -> None:
    file = parquet_of(compacted, tmp_path)
    whole = file.read_bytes()
    compacted.write(a_run(3))
    draw = random.Random(1)
    found = []

    for _ in range(20):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        found.append(open_store(tmp_path).index())

    assert {index.names for index in found} == {(name_of(a_run(3)),)}
    assert all("its Parquet file is damaged" in index.problems[0] for index in found)


@pytest.mark.parametrize(
    ("rows", "n_left"),
    [
        ("SELECT * REPLACE (map(['total'], [[1.5]]) AS times_ms) FROM held", 0),
        ("SELECT * FROM held WHERE case_index IS DISTINCT FROM 1", 0),
        ("SELECT * REPLACE (replace(header, 'main', 'mine') AS header) FROM held", 0),
        ("SELECT * REPLACE (replace(slim, 'cpu', 'gpu') AS slim) FROM held", 0),
        ("SELECT * REPLACE (case_index + 1 AS case_index) FROM held", 0),
        ("SELECT * REPLACE (if(name LIKE '%1', 'x', name) AS name) FROM held", 1),
        ("SELECT * REPLACE (if(name LIKE '%1', 'x', digest) AS digest) FROM held", 1),
    ],
)
def test_rows_that_were_changed_are_no_other_run(
    compacted: Store, tmp_path: Path, rows: str, n_left: int
) -> None:
    rewrite(parquet_of(compacted, tmp_path), rows)
    store = open_store(tmp_path)

    stored = store.read(store.index().names)

    assert stored.runs == tuple(run_rounds_of(a_run_of_two(2)) for _ in range(n_left))
    assert len(stored.problems) == 2 - n_left


def test_a_call_that_was_changed_is_no_other_run(compacted: Store, tmp_path: Path) -> None:
    changed = "SELECT * REPLACE (replace(whole, '10.0', '11.0') AS whole) FROM held"
    rewrite(parquet_of(compacted, tmp_path), changed)
    store = open_store(tmp_path)

    with pytest.raises(HistoryProblem, match="damaged or changed"):
        store.read_whole(store.index().names[0])


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["history"], 0),
        (["history", "--last", "0", "--json"], 0),
        (["history", "--sql", "SELECT id FROM runs"], 0),
        (["compact"], 1),  # what it leaves fails
        (["trend", "--machine", name_of(a_run(1)).fingerprint], 12),  # five runs are too few
    ],
)
def test_a_damaged_run_is_named_and_stops_no_command(
    compacted: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    status: int,
) -> None:
    for number in (3, 4, 5):
        compacted.write(a_run(number))
    damaged = tmp_path / file_of(name_of(a_run(3)))
    damaged.write_bytes(damaged.read_bytes().replace(b"10.0", b"10.1"))

    assert cli.main([*command, "--history", str(tmp_path)]) == status

    printed = capsys.readouterr()
    assert damaged.stem in printed.out + printed.err
    assert damaged.exists()


def rewrite(file: Path, rows: str) -> None:
    """Write other rows under a name without the file's digest, as if from a far place."""
    other = file.with_name(file.stem.rpartition("_")[0] + file.suffix)
    with duckdb.connect() as connection:
        metadata = dict(
            connection.execute(
                "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)", [str(file)]
            ).fetchall()
        )
        connection.execute(f"CREATE VIEW held AS SELECT * FROM read_parquet('{file}')")
        connection.execute(
            f"COPY ({rows}) TO '{file}.new' (FORMAT parquet, KV_METADATA "
            f"{{format: '{metadata['format']}', names: '{metadata['names']}'}})"
        )
    shutil.move(f"{file}.new", other)
    file.unlink()


@pytest.mark.parametrize("key", ["5", "null", "[1]", "{}", '"cases"', '"id"'])
def test_a_key_that_is_no_text_or_there_twice_is_no_run(tmp_path: Path, key: str) -> None:
    store = open_store(tmp_path)
    store.write(a_run(1))
    (file,) = (tmp_path / "runs").iterdir()
    file.write_text(file.read_text().replace('"lost":', f'{key}: [], "lost":', 1))

    stored = store.read(store.index().names)

    assert (stored.runs, len(stored.problems)) == ((), 1)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [('}, {"id": ', '} {"id": '), ('}], "lost"', '},], "lost"'), ('"}', '",}')],
)
def test_commas_that_are_missing_or_needless_are_no_json(right: str, wrong: str) -> None:
    before, after = run_json(a_run_of_two(1)).rsplit(right, 1)

    with pytest.raises(Unreadable):
        list(pieces_of(f"{before}{wrong}{after}".encode()))


@pytest.mark.parametrize("start", ["\ufeff", "\n\t "])
def test_a_run_may_begin_with_a_byte_order_mark_or_white_space(tmp_path: Path, start: str) -> None:
    store = open_store(tmp_path)
    store.write(a_run(1))
    (file,) = (tmp_path / "runs").iterdir()
    file.write_text(start + file.read_text(), encoding="utf-8")

    stored = store.read(store.index().names)

    assert (stored.runs, stored.problems) == ((run_rounds_of(a_run(1)),), ())


@pytest.mark.parametrize("part_bytes", [1, 7, 64])
def test_a_run_is_the_same_wherever_its_file_is_divided(
    monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(streamed, "PART_BYTES", part_bytes)
    run = a_run(1, cases=[a_case(name="test_é"), a_case(name="test_b")])
    plain = parse(run_json(run).encode())

    *cases, (_, rest) = pieces_of(
        json.dumps(json.loads(run_json(run)), ensure_ascii=False).encode()
    )

    assert {**rest, "cases": [case for _, case in cases]} == plain
