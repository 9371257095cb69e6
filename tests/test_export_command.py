"""`vlmlatency export`: which runs become records, where they go, and what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.export import read_records
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import file_of, open_store
from tests.cases import a_call, a_case
from tests.export.records import a_record, an_origin_record
from tests.repositories import repository
from tests.runs import a_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_vlmlatency.records import Scalar

    Said = Callable[..., tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run `vlmlatency export` as far as its status, and return what it printed and its errors."""

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        found = cli.main(["export", *(str(argument) for argument in arguments)])
        printed = capsys.readouterr()
        assert found == status, printed.err
        return printed.out, printed.err

    return run


def test_a_run_in_a_file_becomes_the_origins_layout(tmp_path: Path, said: Said) -> None:
    knobs: dict[str, Scalar] = {"tier": "low", "top_k": 4, "num_active_blocks": 8}
    case = a_case([a_call(), a_call()], config=knobs, params={"dataset": "mmmu"})
    write_run(a_run(cases=[case]), tmp_path / "run.json")

    out, err = said(tmp_path / "run.json", "--to", tmp_path / "records")

    assert (out, err) == (f"{tmp_path / 'records'}: 2 records in 1 file\n", "")
    results = json.loads((tmp_path / "records" / "mmmu" / "low-k4-b8.json").read_text())
    assert [record["T_LLM_decode"] for record in results["per_sample_results"]] == [30.0, 30.0]


def test_runs_of_a_history_are_named_as_compare_names_them(tmp_path: Path, said: Said) -> None:
    for number in (1, 2):
        open_store(tmp_path / "history").write(a_run(number))

    said("last", "--history", tmp_path / "history", "--to", tmp_path / "last.parquet")

    sources = [record["source"] for record in read_records(tmp_path / "last.parquet")]
    assert len(sources) == 2
    assert all(source.startswith(a_run(2).id) for source in sources)


def test_exporting_a_run_twice_adds_nothing(tmp_path: Path, said: Said) -> None:
    write_run(a_run(1), tmp_path / "one.json")
    write_run(a_run(2), tmp_path / "two.json")
    said(tmp_path / "one.json", "--to", tmp_path / "records.jsonl")

    out, _err = said(
        tmp_path / "one.json", tmp_path / "two.json", "--to", tmp_path / "records.jsonl"
    )

    assert "2 records in 1 file" in out
    assert len(list(read_records(tmp_path / "records.jsonl"))) == 4


def test_a_file_that_cannot_be_read_is_not_replaced(tmp_path: Path, said: Said) -> None:
    write_run(a_run(), tmp_path / "run.json")
    (tmp_path / "records.json").write_text('{"mine": 1}')

    _out, err = said(tmp_path / "run.json", "--to", tmp_path / "records.json", status=1)

    assert "cannot be kept" in err
    assert (tmp_path / "records.json").read_text() == '{"mine": 1}'


def test_records_of_the_origin_are_turned_into_parquet(tmp_path: Path, said: Said) -> None:
    bad = an_origin_record(T_decode_per_token=19.43)
    (tmp_path / "coco").mkdir()
    results = {"per_sample_results": [an_origin_record(), bad]}
    (tmp_path / "coco" / "low.json").write_text(json.dumps(results))

    out, err = said(tmp_path, "--to", tmp_path / "records.parquet")

    assert "1 records in 1 file" in out
    assert "left out, inconsistent: 1" in err
    assert "low.json, record 1: T_LLM_decode / T_decode_per_token = 38.85 / 19.43" in err


def test_cpu_time_is_exported_on_demand(tmp_path: Path, said: Said) -> None:
    write_run(a_run(), tmp_path / "run.json")

    said(tmp_path / "run.json", "--to", tmp_path / "x.jsonl", "--measure", "cpu")

    [first, _second] = read_records(tmp_path / "x.jsonl")
    assert (first["measure"], first["T_LLM_decode"]) == ("cpu_ms", 15.0)


def test_calls_that_are_no_records_are_counted_and_named(tmp_path: Path, said: Said) -> None:
    drafted = replace(a_call(n_output_tokens=8), n_decode_steps=3)
    write_run(a_run(cases=[a_case([drafted, a_call()])]), tmp_path / "run.json")

    _out, err = said(tmp_path / "run.json", "--to", tmp_path / "x.jsonl")

    assert "left out, not one token a step: 1" in err


def test_what_is_neither_run_nor_records_is_named(tmp_path: Path, said: Said) -> None:
    (tmp_path / "x.json").write_text('{"name": 1}')

    _out, err = said(tmp_path / "x.json", "--to", tmp_path / "y.jsonl", status=1)

    assert "x.json is no run that can be read" in err
    assert not (tmp_path / "y.jsonl").exists()


def test_a_word_that_no_disk_takes_is_no_run(tmp_path: Path, said: Said) -> None:
    open_store(tmp_path / "history").write(a_run(1))
    history = ["--history", tmp_path / "history"]

    _out, err = said("x" * 5000, *history, "--to", tmp_path / "y.jsonl", status=2)

    assert "x" * 50 in err


def test_a_folder_of_nothing_believable_writes_nothing(tmp_path: Path, said: Said) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.jsonl").write_text(json.dumps(a_record(T_LLM_decode=0)))

    _out, err = said(tmp_path / "in", "--to", tmp_path / "out", status=1)

    assert "no record that can be believed" in err


@pytest.mark.parametrize(
    ("measure", "ratio", "is_warned"),
    [("wall", 0.4, True), ("wall", 0.01, False), ("cpu", 0.4, False)],
)
def test_wall_times_of_a_contended_cpu_are_warned_of(
    tmp_path: Path, said: Said, measure: str, ratio: float, *, is_warned: bool
) -> None:
    calls = [replace(a_call(), contended_ratio=ratio), a_call()]
    write_run(a_run(cases=[a_case(calls)]), tmp_path / "run.json")

    _out, err = said(tmp_path / "run.json", "--to", tmp_path / "x.jsonl", "--measure", measure)

    assert ("contended: 1 of 2 records are wall times" in err) == is_warned


def test_one_of_several_runs_that_cannot_be_read_is_named_and_the_others_are_exported(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository(tmp_path, {"x.txt": "x"})
    monkeypatch.chdir(tmp_path)
    store = open_store(tmp_path / "history")
    for number in (1, 2):
        store.write(a_run(number, commit=commit))
    spoilt = name_of(a_run(1, commit=commit))
    store.place.write(file_of(spoilt), b"{}")

    out, err = said("HEAD", "--history", store.url, "--to", tmp_path / "r.jsonl", status=1)

    assert out == f"{tmp_path / 'r.jsonl'}: 2 records in 1 file\n"
    assert err == f"left out: {store.url}: {spoilt.text}: no run of pytest-vlmlatency\n"
