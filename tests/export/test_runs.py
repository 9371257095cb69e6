"""A run as training records: which calls become one, and with which times."""

from __future__ import annotations

from dataclasses import replace

from pytest_vlmlatency.export import Reason, records_of
from pytest_vlmlatency.records import CPU, Scalar, Span
from tests.cases import a_call, a_case
from tests.runs import a_run

KNOBS: dict[str, Scalar] = {"tier": "medium", "top_k": 8, "num_active_blocks": 12}


def test_each_kept_call_is_a_record_with_the_origins_names() -> None:
    case = a_case([a_call(decode_ms=30.0), a_call(decode_ms=33.0)], config=KNOBS)
    first, second = records_of(a_run(cases=[case])).records
    assert first["T_LLM_decode"], second["T_LLM_decode"] == (30.0, 33.0)
    assert (
        first
        | {
            "schema_version": 1,
            "actual_vision_tokens": 16,
            "actual_text_tokens": 8,
            "output_tokens": 4,
            "tier": "medium",
            "tier_idx": 1,
            "top_k": 8,
            "num_active_blocks": 12,
            "T_vision_total": 10.0,
            "T_LLM_prefill": 20.0,
            "T_prefill_total": 30.0,
            "T_LLM_decode": 30.0,
            "T_decode_per_token": 7.5,
            "T_total": 61.0,
            "T_other": 1.0,
            "decode_steps": 3,
            "T_decode_per_step": 10.0,
            "batch_size": 1,
            "configuration": KNOBS,
            "measure": "wall_ms",
        }
        == first
    )


def test_a_tests_parameters_say_how_many_pictures_of_what_size() -> None:
    params = {"image_count": "2", "image_width": "672", "image_height": "large"}
    cases = [a_case([a_call()], params=params), a_case([a_call()], id="other", params={})]

    first, second = records_of(a_run(cases=cases)).records

    names = ("image_count", "image_width", "image_height")
    assert [first[name] for name in names] == [2, 672, None]
    assert [second[name] for name in names] == [None, None, None]


def test_discarded_calls_and_unmeasured_cases_are_no_records() -> None:
    disturbed = a_call(discarded_because="clocks disagree")
    cases = [a_case([a_call()], discarded=(disturbed,)), a_case([a_call()], is_measured=False)]
    assert len(records_of(a_run(cases=cases)).records) == 1


def test_a_call_of_fewer_steps_than_tokens_is_left_out_by_name() -> None:
    drafted = replace(a_call(n_output_tokens=8), n_decode_steps=3)
    found = records_of(a_run(cases=[a_case([drafted, a_call()])]))
    assert len(found.records) == 1
    assert "8 output tokens took 3 decode steps" in found.left_out[Reason.NOT_STEPWISE].first[0]


def test_other_parts_are_in_the_total_and_in_other() -> None:
    own = Span(name="text_encoder", start_ms=0.0, measures={"wall_ms": 5.0, "cpu_ms": 2.5})
    call = a_call(extra_spans=[own])
    call = replace(call, total={"wall_ms": 66.0, "cpu_ms": 33.0})
    [record] = records_of(a_run(cases=[a_case([call])])).records
    assert (record["T_other"], record["T_total"]) == (6.0, 66.0)


def test_cpu_time_is_exported_where_it_is_asked_for() -> None:
    [record] = records_of(a_run(cases=[a_case([a_call()])]), measure=CPU).records
    assert (record["T_LLM_decode"], record["T_total"], record["measure"]) == (15.0, 30.5, "cpu_ms")


def test_a_call_without_cpu_time_is_left_out_where_it_is_asked_for() -> None:
    found = records_of(a_run(cases=[a_case([a_call(cpu_share=None)])]), measure=CPU)
    assert (found.records, found.left_out[Reason.MISSING].count) == ((), 1)


def test_a_parameter_called_dataset_names_the_data_set() -> None:
    case = a_case([a_call()], params={"dataset": "mmmu"})
    [record] = records_of(a_run(cases=[case])).records
    assert record["dataset"] == "mmmu"
