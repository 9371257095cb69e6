"""Reading records back: what is taken over, and what is left out, by reason and by name."""

from __future__ import annotations

import json
import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export import Reason, read_records, write_records
from tests.export.records import a_record, an_origin_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = a_record(99)


def _left_out(*records: Any) -> dict[str, int]:
    reader = read_records([*records, GOOD])
    assert [record["source"] for record in reader] == [GOOD["source"]]
    return {str(reason): left_out.count for reason, left_out in reader.left_out.items()}


def test_a_record_of_the_origin_is_accepted_and_what_follows_is_computed() -> None:
    [record] = read_records([an_origin_record()])
    assert record["T_prefill_total"] == pytest.approx(111.18)
    assert record["T_decode_per_token"] == 38.85 / 11  # the file says 3.53
    assert record["decode_steps"] == 10
    assert record["T_decode_per_step"] == 38.85 / 10
    assert (record["tier_idx"], record["batch_size"], record["T_other"]) == (0, 1, None)
    assert record["configuration"] == {"tier": "low", "top_k": 4, "num_active_blocks": 12}


def test_the_rate_per_token_may_be_absent() -> None:
    given = an_origin_record()
    del given["T_decode_per_token"], given["T_total"]
    [record] = read_records([given])
    assert (record["T_decode_per_token"], record["T_total"]) == (38.85 / 11, None)


def test_one_token_has_no_time_per_step() -> None:
    [record] = read_records([a_record(output_tokens=1, T_LLM_decode=40.0)])
    assert (record["decode_steps"], record["T_decode_per_step"]) == (0, None)


def test_a_tier_may_be_given_by_its_index() -> None:
    [record] = read_records([an_origin_record(tier=2)])
    assert (record["tier"], record["tier_idx"]) == ("high", 2)


def test_a_record_without_knobs_is_accepted() -> None:
    [record] = read_records([a_record(configuration={})])
    assert (record["tier"], record["tier_idx"], record["top_k"]) == (None, None, None)


def test_numbers_of_numpy_are_numbers() -> None:
    [record] = read_records([a_record(output_tokens=np.int64(5), T_LLM_decode=np.float32(40.0))])
    assert (record["output_tokens"], record["T_LLM_decode"]) == (5, 40.0)


def test_fields_that_are_not_known_pass() -> None:
    [record] = read_records([a_record(image_count=3)])
    assert record["image_count"] == 3


def test_the_origins_own_example_is_inconsistent() -> None:
    reader = read_records([an_origin_record(T_decode_per_token=19.43), GOOD])
    assert len(list(reader)) == 1
    assert reader.left_out[Reason.INCONSISTENT].first == (
        "record 0: T_LLM_decode / T_decode_per_token = 38.85 / 19.43 = 1.999, but output_tokens "
        "is 11",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"T_LLM_decode": 0}, "impossible"),
        ({"output_tokens": 0}, "impossible"),
        ({"T_LLM_prefill": 0.0}, "impossible"),
        ({"T_vision_total": 0.0}, "impossible"),
        ({"T_LLM_prefill": 1e300}, "impossible"),
        ({"T_LLM_prefill": 10**400}, "impossible"),
        ({"actual_text_tokens": 10**5000}, "impossible"),
        ({"tier": "ultra"}, "impossible"),
        ({"tier": 3}, "impossible"),
        ({"tier_idx": 3}, "impossible"),
        ({"batch_size": 0}, "impossible"),
        ({"T_LLM_decode": -1.0}, "negative"),
        ({"T_LLM_decode": -(10**400)}, "negative"),
        ({"actual_vision_tokens": -384}, "negative"),
        ({"T_LLM_decode": math.nan}, "not finite"),
        ({"T_total": math.inf}, "not finite"),
        ({"output_tokens": math.nan}, "not finite"),
        ({"configuration": {"knob": math.nan}}, "not finite"),
        ({"T_LLM_decode": None}, "missing a field"),
        ({"actual_text_tokens": None}, "missing a field"),
        ({"T_LLM_decode": "38.85"}, "of a wrong type"),
        ({"T_LLM_decode": True}, "of a wrong type"),
        ({"output_tokens": 10.5}, "of a wrong type"),
        ({"output_tokens": [11]}, "of a wrong type"),
        ({"configuration": "low-k4-b12"}, "of a wrong type"),
        ({"configuration": {"knob": [1]}}, "of a wrong type"),
        ({"configuration": {1: 2}}, "of a wrong type"),
        ({"machine": 7}, "of a wrong type"),
        ({"tier_idx": "low"}, "of a wrong type"),
        ({"T_total": 100.0}, "inconsistent"),
        ({"T_other": 7.0}, "inconsistent"),
        ({"T_prefill_total": 111.0}, "inconsistent"),
        ({"decode_steps": 11}, "inconsistent"),
        ({"T_decode_per_step": 3.53}, "inconsistent"),
        ({"tier_idx": 2}, "inconsistent"),
        ({"configuration": {"top_k": 12}}, "inconsistent"),
        ({"schema_version": 2}, "of a newer version"),
        ({"schema_version": 0}, "impossible"),
        ({"schema_version": "1"}, "of a wrong type"),
        ({"machine": "ba9876543210"}, "of another machine"),
        ({"machine": None}, "of another machine"),
    ],
)
def test_what_cannot_be_true_is_left_out_for_its_reason(
    fields: dict[str, object], reason: str
) -> None:
    given = an_origin_record(machine=GOOD["machine"]) | fields
    reader = read_records([GOOD, given])
    assert [record["source"] for record in reader] == [GOOD["source"]]
    assert {str(why): found.count for why, found in reader.left_out.items()} == {reason: 1}


def test_another_measure_is_left_out() -> None:
    reader = read_records([GOOD, a_record(measure="cpu_ms")])
    assert len(list(reader)) == 1
    assert reader.left_out[Reason.MIXED_MEASURE].count == 1


def test_what_is_no_object_is_of_a_wrong_type() -> None:
    assert _left_out(None, 1, "a text", [], ()) == {"of a wrong type": 5}


def test_equal_records_count_once_and_the_rest_as_duplicates() -> None:
    assert _left_out(GOOD | {"note": "a copy"}) == {"duplicate": 1}


def test_equal_times_from_two_calls_are_no_duplicates() -> None:
    assert len(list(read_records([a_record(1), a_record(2)]))) == 2


def test_the_first_few_are_named_and_the_rest_counted() -> None:
    reader = read_records([*(a_record(number, T_LLM_decode=0) for number in range(7)), GOOD])
    list(reader)
    assert reader.report_lines() == [
        "left out, impossible: 7",
        *(f"  record {n}: T_LLM_decode is 0 ms for 5 output tokens" for n in range(5)),
        "  and 2 more",
    ]


def test_one_machine_may_be_chosen() -> None:
    records = [a_record(1), a_record(2, machine="ba9876543210")]
    reader = read_records(records, machine="ba9876543210")
    assert [record["source"] for record in reader] == ["run/case#2"]
    assert reader.machines == {"0123456789ab": 1, "ba9876543210": 1}


def test_nothing_believable_is_an_error_with_the_reasons() -> None:
    with pytest.raises(RecordsProblem, match="T_LLM_decode is 0 ms"):
        list(read_records([a_record(T_LLM_decode=0)]))
    with pytest.raises(RecordsProblem, match="there was none to read"):
        list(read_records([]))


def test_a_reader_can_be_read_again() -> None:
    reader = read_records([a_record(1), a_record(1)])
    assert (len(list(reader)), len(list(reader))) == (1, 1)
    assert reader.left_out[Reason.DUPLICATE].count == 1


@pytest.mark.parametrize("source", [7, None, a_record(), b"x.json"])
def test_what_is_no_source_is_an_error(source: object) -> None:
    with pytest.raises(RecordsProblem, match="nothing to read records from"):
        read_records(source)  # type: ignore[arg-type]  # that is the point


def test_the_origins_folder_is_read_with_its_data_sets(tmp_path: Path) -> None:
    for dataset in ("coco_caption", "mmmu"):
        (tmp_path / dataset).mkdir()
        results = [an_origin_record(actual_text_tokens=len(dataset))]
        text = json.dumps({"per_sample_results": results})
        (tmp_path / dataset / "low.json").write_text(text)
    assert [record["dataset"] for record in read_records(tmp_path)] == ["coco_caption", "mmmu"]


def test_several_paths_are_read_one_after_another(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.jsonl"]
    write_records([a_record(1)], paths[0])
    write_records([a_record(2)], paths[1])
    assert [record["source"] for record in read_records(paths)] == ["run/case#1", "run/case#2"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_records_survive_a_trip_through_a_file(tmp_path: Path, suffix: str) -> None:
    records = list(read_records([a_record(1, note=[1, {"x": "ü"}]), a_record(2, top_k=4)]))
    path = tmp_path / f"records{suffix}"
    assert write_records(records, path) == {path: 2}
    assert list(read_records(path)) == records


def test_records_of_the_origin_survive_being_written_again(tmp_path: Path) -> None:
    records = list(read_records([an_origin_record()]))
    write_records(records, tmp_path / "again.parquet")
    assert list(read_records(tmp_path / "again.parquet")) == records


def test_a_folder_gets_the_origins_layout(tmp_path: Path) -> None:
    other = a_record(2, dataset="mmmu", configuration={"batch": 2})
    written = write_records(read_records([a_record(1), other]), tmp_path / "new")
    names = sorted(str(path.relative_to(tmp_path)) for path in written)
    assert names == ["new/coco/low-k4-b8.json", "new/mmmu/batch=2.json"]
    assert list(json.loads((tmp_path / names[0]).read_text())) == ["per_sample_results"]


def test_a_data_set_cannot_leave_the_folder(tmp_path: Path) -> None:
    [path] = write_records(read_records([a_record(dataset="../../x/..")]), tmp_path / "new")
    assert path.resolve().is_relative_to(tmp_path / "new")


def test_names_that_look_alike_on_disk_stay_apart(tmp_path: Path) -> None:
    records = [a_record(1, dataset="a/b"), a_record(2, dataset="a b")]
    assert len(write_records(read_records(records), tmp_path)) == 2


def test_nothing_is_replaced_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("mine")
    with pytest.raises(RecordsProblem, match="no record to write"):
        write_records([], path)
    assert path.read_text() == "mine"


def test_a_tier_may_be_given_by_its_index_alone() -> None:
    given = an_origin_record(tier_idx=2)
    del given["tier"]
    in_configuration = a_record(configuration={"tier_idx": 0, "top_k": 4})
    records = list(read_records([given | {"machine": GOOD["machine"]}, in_configuration]))
    assert [(record["tier"], record["tier_idx"]) for record in records] == [("high", 2), ("low", 0)]
    assert records[1]["configuration"] == {"tier": "low", "top_k": 4}


def test_a_tier_said_twice_must_be_one_tier() -> None:
    given = a_record(tier_idx=1)  # its configuration has tier low
    reader = read_records([GOOD, given])
    assert len(list(reader)) == 1
    [seen] = reader.left_out[Reason.INCONSISTENT].first
    assert seen == "record 1: tier_idx is 'medium', tier in the configuration 'low'"


def test_the_version_of_a_file_is_that_of_its_records(tmp_path: Path) -> None:
    rounded = an_origin_record(T_total=151.19)  # off by rounding, as a record with a version is not
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"schema_version": 1, "per_sample_results": [rounded, a_record()]}))
    reader = read_records(path)
    assert [record["schema_version"] for record in reader] == [1]
    assert list(reader.left_out) == [Reason.INCONSISTENT]


@pytest.mark.parametrize(
    ("version", "reason"), [(99, Reason.NEWER), (0, Reason.IMPOSSIBLE), ("1", Reason.WRONG_TYPE)]
)
def test_a_file_of_another_version_is_left_out(
    tmp_path: Path, version: object, reason: Reason
) -> None:
    content = {"schema_version": version, "per_sample_results": [an_origin_record()]}
    (tmp_path / "x.json").write_text(json.dumps(content))
    reader = read_records(tmp_path)
    with pytest.raises(RecordsProblem, match="no record that can be believed"):
        list(reader)
    assert list(reader.left_out) == [reason]


def test_a_generator_goes_for_a_list(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.jsonl"]
    write_records([a_record(1)], paths[0])
    write_records([a_record(2)], paths[1])
    assert len(list(read_records(path for path in paths))) == 2
    assert len(list(read_records(dict.fromkeys(paths).keys()))) == 2
    assert len(list(read_records(a_record(number) for number in range(3)))) == 3


def test_paths_and_records_do_not_mix(tmp_path: Path) -> None:
    write_records([a_record()], tmp_path / "a.json")
    with pytest.raises(RecordsProblem, match="give paths alone, or record dicts alone"):
        read_records([tmp_path / "a.json", a_record()])  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_what_stands_in_a_file_is_kept(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_records([a_record(1)], path)
    assert write_records([a_record(1), a_record(2)], path) == {path: 1}
    assert [record["source"] for record in read_records(path)] == ["run/case#1", "run/case#2"]


@pytest.mark.parametrize("stands", ["x.jsonl", "another.jsonl"])
def test_what_another_program_writes_meanwhile_is_kept(tmp_path: Path, stands: str) -> None:
    path = tmp_path / "x.jsonl"
    write_records([a_record(0)], tmp_path / stands)

    def slow() -> Iterator[dict[str, Any]]:
        yield a_record(1)
        path.write_text(json.dumps(a_record(2)) + "\n")

    with pytest.raises(RecordsProblem, match="changed by another process meanwhile"):
        write_records(slow(), path)
    assert "run/case#2" in [record["source"] for record in read_records(path)]


def test_of_two_exports_into_one_file_at_the_same_time_neither_loses_a_record(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x.jsonl"
    barrier = threading.Barrier(2)

    def export(number: int) -> None:
        barrier.wait()
        for index in range(8):
            write_records([a_record(10 * number + index)], path)

    threads = [threading.Thread(target=export, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(list(read_records(path))) == 16


def test_a_file_is_replaced_on_demand_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_records([a_record(1)], path)
    write_records([a_record(2)], path, is_kept=False)
    assert [record["source"] for record in read_records(path)] == ["run/case#2"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_a_call_without_a_source_is_known_by_its_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_records([an_origin_record()], path)
    longer = an_origin_record(T_total=160.0)
    assert write_records([an_origin_record(), longer], path) == {path: 1}
    assert [record["T_total"] for record in read_records(path)] == [151.2, 160.0]


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"foo": 1}, "record 1 could not be read back, missing a field: actual_vision_tokens"),
        (a_record(T_LLM_decode=0.0), "record 1 could not be read back, impossible: T_LLM_decode"),
        (7, "record 1 could not be read back, of a wrong type: 7 is no object"),
        (a_record(note=math.nan), "cannot be written as JSON"),
        (a_record(note={1, 2}), "cannot be written as JSON"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tmp_path: Path, record: Any, words: str, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    write_records([a_record(1)], path)
    before = path.read_bytes()
    with pytest.raises(RecordsProblem, match=words):
        write_records([a_record(2), record], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_parquet_cannot_hold_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordsProblem, match="cannot be written as Parquet"):
        write_records([a_record(dataset="\ud800")], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_field_of_any_name_survives_parquet(tmp_path: Path) -> None:
    write_records([a_record(further=3)], tmp_path / "x.parquet")
    assert [record["further"] for record in read_records(tmp_path / "x.parquet")] == [3]
