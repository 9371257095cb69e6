"""Record files as they come: truncated, foreign, huge, nested, in odd encodings; and at random."""

from __future__ import annotations

import json
import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export import Reason, read_records, write_records
from pytest_vlmlatency.export.writing import write_checked
from tests.export.records import a_record, an_origin_record
from tests.folders import forbid_reading

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.export import RecordReader

SUFFIXES = (".json", ".jsonl", ".parquet")
FUZZED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _read_beside_a_good_one(folder: Path, content: bytes, suffix: str) -> RecordReader:
    """Read a folder of one good file and one of this content."""
    (folder / f"content{suffix}").write_bytes(content)
    write_records([a_record()], folder / "a_good_one.jsonl", is_kept=False)
    reader = read_records(folder)
    assert a_record()["source"] in [record["source"] for record in reader]
    return reader


@pytest.mark.parametrize(
    ("content", "suffix", "reason", "words"),
    [
        (b"", ".json", Reason.UNREADABLE, "no whole JSON"),
        (b'{"per_sample_results": [{"actual_vi', ".json", Reason.UNREADABLE, "no whole JSON"),
        (b'{"per_sample_results": [' + b"[" * 10**6, ".json", Reason.UNREADABLE, "nested too"),
        (b"[" * 10**6 + b"\n", ".jsonl", Reason.UNREADABLE, "line 1: nested too deeply"),
        (b"9" * 5000, ".json", Reason.UNREADABLE, "no JSON that can be read"),
        (b"\xff\xfe\x00", ".jsonl", Reason.UNREADABLE, "no UTF-8"),
        (b'{"name": "x", "version": 1}', ".json", Reason.FOREIGN, "'name', 'version'"),
        (b'{"per_sample_results": {}}', ".json", Reason.FOREIGN, "'per_sample_results'"),
        (b'"a text"', ".json", Reason.FOREIGN, "a str"),
        (b'{"output_tokens": 1, "output_tokens": 2}', ".jsonl", Reason.INCONSISTENT, "twice"),
        (b"", ".parquet", Reason.UNREADABLE, "no whole Parquet"),
        (b"PAR1" + b"\0" * 100 + b"PAR1", ".parquet", Reason.UNREADABLE, "no whole Parquet"),
        (b"x" * (16 * 2**20 + 9), ".jsonl", Reason.UNREADABLE, "longer than"),
        (b'[{"\\ud800": "\\ud800", "tier": "\\udfff"}]', ".json", Reason.MISSING, "is missing"),
    ],
)
def test_a_file_that_is_no_record_file_is_left_out_with_the_reason(
    tmp_path: Path, content: bytes, suffix: str, reason: Reason, words: str
) -> None:
    reader = _read_beside_a_good_one(tmp_path, content, suffix)
    assert list(reader.left_out) == [reason]
    assert words in reader.left_out[reason].first[0]


def test_a_line_behind_one_that_is_too_long_is_read(tmp_path: Path) -> None:
    long = b'"' + b"x" * (17 * 2**20) + b'"\n'
    line = json.dumps(a_record(2)).encode()
    (tmp_path / "lines.jsonl").write_bytes(long + line)
    [record] = read_records(tmp_path)
    assert record["source"] == a_record(2)["source"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_large_file_is_not_held_in_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"records{suffix}"
    write_records((a_record(number, note="x" * 1000) for number in range(10_000)), path)
    tracemalloc.start()

    n_read = sum(1 for _record in read_records(path))

    _now_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_read == 10_000
    assert peak_bytes < 8 * 2**20  # the records alone have 10 MB of notes, and as dicts far more


def test_a_truncated_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    write_records([a_record(1), a_record(2)], path)
    path.write_bytes(path.read_bytes()[:-10])
    reader = read_records(path)
    assert [record["source"] for record in reader] == ["run/case#1"]
    assert "line 2: no whole JSON" in reader.left_out[Reason.UNREADABLE].first[0]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"per_sample_results": [an_origin_record()]}), encoding="utf-8-sig")
    assert len(list(read_records(path))) == 1


def test_a_parquet_file_of_something_else_is_foreign(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    duckdb.sql("SELECT 1 AS a, 2 AS b").write_parquet(str(tmp_path / "x.parquet"))
    reader = read_records(tmp_path)
    with pytest.raises(RecordsProblem, match="no record that can be believed"):
        list(reader)
    assert list(reader.left_out) == [Reason.FOREIGN]


def test_a_parquet_file_of_somebody_elses_writer_is_read(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "origin[1].parquet"
    fields = ", ".join(
        f"'{value}' AS {name}" if isinstance(value, str) else f"{value}::DOUBLE AS {name}"
        for name, value in an_origin_record().items()
    )
    duckdb.sql(f"SELECT {fields}").write_parquet(str(path))
    [record] = read_records(path)
    assert (record["output_tokens"], record["tier"]) == (11, "low")


def test_a_path_that_is_not_there_or_has_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordsProblem, match="no file or folder"):
        read_records(tmp_path / "nowhere")
    with pytest.raises(RecordsProblem, match="has no record file"):
        read_records(tmp_path)
    with pytest.raises(RecordsProblem, match="cannot be looked at: File name too long"):
        read_records("x" * 5000)
    with pytest.raises(RecordsProblem, match="cannot be looked at: embedded null"):
        read_records("x\0")
    with pytest.raises(RecordsProblem, match="'' is no path"):
        read_records("")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(RecordsProblem, match="is neither a file nor a folder"):
        read_records(tmp_path / "pipe.jsonl")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        RecordsProblem, match=r"is no record file; expected a name that ends in \.js"
    ):
        read_records(tmp_path / "notes.txt")


def test_what_bears_a_records_name_and_is_no_file_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    write_records([a_record()], tmp_path / "x.jsonl")
    reader = read_records(tmp_path)
    assert len(list(reader)) == 1
    assert reader.left_out[Reason.UNREADABLE].first == (
        f"{tmp_path / 'gone.json'}: No such file or directory",
        f"{tmp_path / 'pipe.jsonl'}: it is no regular file",
    )


def test_a_file_that_vanishes_before_it_is_read_is_left_out(tmp_path: Path) -> None:
    write_records([a_record(1)], tmp_path / "a.jsonl")
    write_records([a_record(2)], tmp_path / "b.jsonl")
    reader = read_records(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    assert len(list(reader)) == 1
    assert reader.left_out[Reason.UNREADABLE].count == 1


def test_a_folder_that_may_not_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").mkdir()
    write_records([a_record()], tmp_path / "x.jsonl")
    forbid_reading(tmp_path / "secret", monkeypatch)

    with pytest.raises(RecordsProblem, match="secret cannot be read: Permission denied"):
        read_records(tmp_path)


def test_a_linked_folder_is_read_once_and_a_hidden_one_never(tmp_path: Path) -> None:
    for number, name in enumerate(("elsewhere/linked", "results/coco", "results/.vlmlatency-1")):
        write_records([a_record(number, source=name)], tmp_path / name / "x.jsonl")
    (tmp_path / "results" / "linked").symlink_to(tmp_path / "elsewhere" / "linked")
    (tmp_path / "results" / "coco" / "back").symlink_to(tmp_path / "results")
    reader = read_records(tmp_path / "results")
    assert [record["source"] for record in reader] == ["results/coco", "elsewhere/linked"]
    assert dict(reader.left_out) == {}


@FUZZED
@given(content=st.binary(max_size=200), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_are_left_out(tmp_path: Path, content: bytes, suffix: str) -> None:
    reader = _read_beside_a_good_one(tmp_path, content, suffix)
    assert reader.n_read == 1


@FUZZED
@given(at=st.integers(0, 2000), suffix=st.sampled_from(SUFFIXES))
def test_a_file_cut_anywhere_gives_whole_records_or_none(
    tmp_path: Path, at: int, suffix: str
) -> None:
    records = [a_record(number) for number in range(1, 4)]
    whole = tmp_path / f"content{suffix}"
    write_records(records, whole, is_kept=False)
    content = whole.read_bytes()
    reader = _read_beside_a_good_one(tmp_path, content[: at % len(content)], suffix)
    sources = {record["source"] for record in reader}
    assert sources <= {record["source"] for record in [a_record(), *records]}


@FUZZED
@given(content=JSON_VALUES, suffix=st.sampled_from(SUFFIXES[:2]))
def test_any_json_is_left_out(tmp_path: Path, content: object, suffix: str) -> None:
    text = json.dumps({"per_sample_results": content} if suffix == ".json" else content)
    reader = _read_beside_a_good_one(tmp_path, text.encode(), suffix)
    assert reader.n_read == 1


@FUZZED
@given(
    name=st.sampled_from(sorted({*an_origin_record(), *a_record(), "tier_idx", "decode_steps"})),
    value=JSON_VALUES,
)
def test_any_value_of_a_field_is_taken_over_or_left_out(name: str, value: object) -> None:
    changed = a_record(1) | {name: value}
    reader = read_records([a_record(), changed])
    for record in reader:
        assert record["T_LLM_decode"] / record["output_tokens"] == record["T_decode_per_token"]
        assert 0 < record["T_LLM_decode"] < 1e9
    assert reader.n_read + sum(found.count for found in reader.left_out.values()) == 2


@FUZZED
@given(content=st.binary(min_size=1, max_size=20), at=st.integers(0, 5000))
def test_a_damaged_parquet_file_gives_no_traceback(tmp_path: Path, content: bytes, at: int) -> None:
    path = tmp_path / "content.parquet"
    write_records([a_record(number) for number in range(1, 9)], path, is_kept=False)
    whole = path.read_bytes()
    at %= len(whole)
    _read_beside_a_good_one(tmp_path, whole[:at] + content + whole[at + len(content) :], ".parquet")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        ('"actual_vision_tokens": 100', '"actual_vision_tokens": 101'),
        ('"T_vision_total": 10.0', '"T_vision_total": 10.000001'),
        ('"n_threads": 2', '"n_threads": 1'),
        ('"top_k": 4', '"top_k": 5'),
        ('"mine": "x"', '"mime": "x"'),
    ],
)
def test_a_record_that_was_changed_since_it_was_written_is_left_out(
    tmp_path: Path, suffix: str, was: str, is_now: str
) -> None:
    path = tmp_path / f"records{suffix}"
    write_records([a_record(1, n_threads=2, mine="x"), a_record(2, T_total=102, T_other=2)], path)
    text = path.read_text()
    assert was in text
    path.write_text(text.replace(was, is_now, 1))

    reader = read_records(path)

    assert [record["T_total"] for record in reader] == [102.0]
    assert [(reason, out.count) for reason, out in reader.left_out.items()] == [(Reason.CHANGED, 1)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_is_read_back_from_every_form_as_it_was_written(
    tmp_path: Path, suffix: str
) -> None:
    written = [
        a_record(1, T_total=101, mine={"a": [1, None]}, tier_idx=0, dataset=None),
        an_origin_record(configuration=None, image="é", machine="0123456789ab"),
    ]
    write_records(written, tmp_path / f"first{suffix}")

    reader = read_records(tmp_path / f"first{suffix}")
    write_records(reader, tmp_path / f"second{suffix}")
    again = list(read_records(tmp_path / f"second{suffix}"))

    assert (list(reader), reader.left_out) == (again, {})
    assert len(again) == len(written)


def test_records_of_versions_without_a_digest_are_read(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text(json.dumps(a_record()) + "\n")

    assert [record["source"] for record in read_records(tmp_path)] == [a_record()["source"]]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet", ""])
def test_records_that_were_checked_are_written_the_same_without_another_check(
    tmp_path: Path, suffix: str
) -> None:
    machine = a_record()["machine"]
    given = [
        an_origin_record(machine=machine),
        an_origin_record(machine=machine, tier=None, tier_idx=1, batch_size=2),
    ]
    given += [a_record(number, dataset="vqa") for number in range(3)]
    read = list(read_records(given))
    once, twice = tmp_path / f"once{suffix}", tmp_path / f"twice{suffix}"

    assert sum(write_checked(read, once).values()) == sum(write_records(read, twice).values())

    assert list(read_records(once)) == list(read_records(twice))
    assert len(list(read_records(once))) == len(given)
