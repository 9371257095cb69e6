"""Inputs and records become columns, or an error says why not."""

import json
import math
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem, RecordsProblem
from pytest_vlmlatency.estimator.columns import ContendedRecords, RecordsLeftOut, Table, table_of
from pytest_vlmlatency.estimator.inputs import INPUTS, Knob, are_scalars, column, columns_of
from pytest_vlmlatency.estimator.protocol import PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.records import a_record


def a_config(**changes: object) -> dict[str, object]:
    return {
        "vision_tokens": 576,
        "text_tokens": 32,
        "tier": "medium",
        "top_k": 8,
        "num_active_blocks": 16,
    } | changes


def test_scalars_lists_and_tensors_become_columns_of_one_length() -> None:
    asked = a_config(vision_tokens=[100, 200], text_tokens=torch.tensor([1.0, 2.0]))

    columns = columns_of(asked, INPUTS)

    assert {name: values.tolist() for name, values in columns.items()} == {
        "vision_tokens": [100.0, 200.0],
        "text_tokens": [1.0, 2.0],
        "tier_idx": [1.0, 1.0],
        "top_k": [8.0, 8.0],
        "num_active_blocks": [16.0, 16.0],
    }


@pytest.mark.parametrize(
    "tier",
    [
        "high",
        2,
        2.0,
        ["high"],
        [2],
        torch.tensor([2]),
        np.array(["high"]),
        np.array("high"),
        np.array(["high"], dtype=object),
    ],
)
def test_a_tier_is_a_name_or_an_index(tier: object) -> None:
    assert columns_of(a_config(tier=tier), INPUTS)["tier_idx"].tolist() == [2.0]


def test_a_tier_is_read_in_lists_of_lists() -> None:
    assert column("tier_idx", [["low", 2], ["high", "low"]]).tolist() == [[0, 2], [2, 0]]


def test_a_record_may_be_asked_for_under_its_own_names() -> None:
    assert columns_of({"actual_vision_tokens": 9}, ["vision_tokens"])["vision_tokens"] == [9.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tier": "huge"}, "there is no tier 'huge'; a tier is one of low, medium, high"),
        ({"vision_token": 3}, "there is no input 'vision_token'; did you mean 'vision_tokens'?"),
        ({"tier_idx": 1}, "tier_idx is given twice"),
        ({"text_tokens": -1}, "text_tokens is -1.0; expected a finite number"),
        ({"text_tokens": float("nan")}, "text_tokens is nan; expected a finite number"),
        ({"text_tokens": "many"}, "text_tokens must be a number, a list"),
        ({"text_tokens": "12"}, "text_tokens must be a number, a list.*not '12'"),
        ({"text_tokens": None}, "text_tokens must be a number, a list.*not None"),
        ({"tier": ["low", None]}, "tier_idx must be a number, a list"),
        ({"tier": 3}, "tier_idx is 3; a tier is one of low, medium, high, or its index 0, 1, 2"),
        ({"tier": 0.5}, "tier_idx is 0.5; a tier is one of"),
        ({"text_tokens": [1, 2], "top_k": [1, 2, 3]}, "shapes that do not go together"),
        ({"text_tokens": [[1, 2]]}, "expected one row a request"),
    ],
)
def test_what_means_nothing_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(EstimatorProblem, match=message.replace("?", r"\?")):
        columns_of(a_config(**changes), INPUTS)


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        (-1, "tier_idx is -1; a tier is one of low, medium, high"),
        (7, "tier_idx is 7; a tier is one of"),
        (float("nan"), "tier_idx is nan; a tier is one of"),
        (None, "tier_idx must be a number.* not None"),
        ("bogus", "there is no tier 'bogus'"),
        (np.array(["low", "bogus"]), "there is no tier 'bogus'"),
        (torch.tensor([0, 9]), "tier_idx is 9; a tier is one of"),
        (["low", "high", "high"], "shapes that do not go together: .*tier_idx"),
    ],
)
@pytest.mark.parametrize("top_k", [[4, 8], torch.tensor([4.0, 8.0])])
@pytest.mark.parametrize("ask", ["predict_batch", "predict", "is_extrapolated"])
def test_a_tier_that_no_law_needs_is_checked_all_the_same(
    fitted: RooflineEstimator, tier: object, message: str, top_k: object, ask: str
) -> None:
    assert "tier_idx" not in fitted.inputs
    with pytest.raises(EstimatorProblem, match=message):
        getattr(fitted, ask)(a_config(tier=tier, top_k=top_k))


@pytest.mark.parametrize("tier", [-1, 7, math.nan, None, "bogus"])
def test_one_request_of_a_tier_that_does_not_exist_is_refused(
    fitted: RooflineEstimator, tier: object
) -> None:
    with pytest.raises(EstimatorProblem, match="tier"):
        fitted.predict(a_config(tier=tier))


@pytest.mark.parametrize("top_k", [8, torch.tensor(8.0)])
@pytest.mark.parametrize("tier", [["low", "medium", "high"], np.array(["low", "medium", "high"])])
def test_tiers_make_rows_though_no_law_needs_them(
    fitted: RooflineEstimator, tier: object, top_k: object
) -> None:
    asked = a_config(tier=tier, top_k=top_k)

    alone = fitted.predict_batch(a_config())[PREFILL]

    assert list(fitted.predict_batch(asked)[PREFILL]) == pytest.approx([*alone] * 3)
    assert len(fitted.predict_quantile(asked, 0.9)[PREFILL]) == 3
    assert fitted.is_extrapolated(asked).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("ask", "more"),
    [
        ("predict_batch", ()),
        ("predict", ()),
        ("predict_quantile", (0.9,)),
        ("is_extrapolated", ()),
        ("max_output_tokens", (500,)),
    ],
)
def test_a_list_of_requests_is_told_how_several_are_written(
    fitted: RooflineEstimator, ask: str, more: tuple[object, ...]
) -> None:
    with pytest.raises(EstimatorProblem, match="expected a mapping of names to values, in which"):
        getattr(fitted, ask)([a_config(), a_config()], *more)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(EstimatorProblem, match="the inputs lack text_tokens, top_k; seen: tier"):
        columns_of({"tier": "low"}, ["text_tokens", "tier_idx", "top_k"])


def test_one_request_is_told_from_a_list_of_one() -> None:
    assert are_scalars(a_config())
    assert not are_scalars(a_config(top_k=[8]))


def test_records_become_columns_and_totals() -> None:
    table = table_of([a_record(output_tokens=5, T_LLM_decode=80.0), a_record(output_tokens=1)])

    assert table.columns["vision_tokens"].tolist() == [576.0, 576.0]
    assert table.columns["tier_idx"].tolist() == [1.0, 1.0]
    assert table.prefill_ms.tolist() == [60.0, 60.0]
    assert table.decode_ms.tolist() == [80.0, 0.3]
    assert table.decode_steps.tolist() == [4.0, 0.0]
    assert table.has_decode.tolist() == [True, False]


def test_each_combination_of_knobs_is_a_configuration() -> None:
    records = [
        a_record(top_k=4),
        a_record(top_k=8),
        a_record(tier="high"),
        a_record(top_k=4, T_LLM_prefill=51.0),
    ]

    table = table_of(records)

    assert table.configurations == (
        "tier=medium top_k=4 num_active_blocks=16",
        "tier=medium top_k=8 num_active_blocks=16",
        "tier=high top_k=8 num_active_blocks=16",
    )
    assert table.configuration.tolist() == [0, 1, 2, 0]


def test_declared_knobs_are_read_from_the_record_or_its_configuration() -> None:
    records = [a_record(batch_size=2, configuration={"dtype": "float16"})]

    table = table_of(records, knobs=[Knob("batch_size"), Knob("dtype", is_category=True)])

    assert table.columns["batch_size"].tolist() == [2.0]
    assert table.columns["dtype"].tolist() == ["float16"]
    assert "batch_size=2 dtype=float16" in table.configurations[0]


def test_a_dense_model_has_no_column_of_experts() -> None:
    assert "top_k" not in table_of([a_record(top_k=None)]).columns


def test_an_input_that_only_some_records_have_is_refused() -> None:
    with pytest.raises(EstimatorProblem, match="1 of 2 records lack top_k, the first being record"):
        table_of([a_record(), a_record(top_k=None)])


def test_what_is_left_out_is_told() -> None:
    records = [a_record(), a_record(machine="bb"), a_record(T_LLM_prefill=-1.0), a_record()]

    with pytest.warns(RecordsLeftOut, match="3 of 4 records are not used") as told:
        table = table_of(records)

    assert len(table) == 1
    assert "of another machine" in str(told[0].message)
    assert "negative" in str(told[0].message)
    assert "duplicate" in str(told[0].message)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f"{json.dumps(a_record())}\n{json.dumps(a_record(top_k=4))}\n")

    assert table_of(path).columns["top_k"].tolist() == [8.0, 4.0]


def test_no_record_at_all_is_an_error() -> None:
    with pytest.raises(RecordsProblem, match="no record that can be believed was found"):
        table_of([])


def test_a_knob_cannot_be_declared_over_an_input() -> None:
    with pytest.raises(EstimatorProblem, match="'top_k' cannot be declared as a further knob"):
        Knob("top_k")


def test_chosen_rows_keep_their_configurations() -> None:
    table = table_of([a_record(top_k=4), a_record(top_k=8)])

    chosen = table.rows(np.array([False, True]))

    assert len(chosen) == 1
    assert table.configurations[chosen.configuration[0]] == table.configurations[1]


def test_the_first_record_that_lacks_an_input_is_named_by_its_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(f"{json.dumps(a_record())}\n")
    second.write_text(f"{json.dumps(a_record(top_k=4))}\n\n{json.dumps(a_record(top_k=None))}\n")

    with pytest.raises(EstimatorProblem, match=rf"the first being {second}, line 3; expected"):
        table_of([first, second])


def test_a_record_without_a_source_comes_from_its_place_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([a_record(), a_record(top_k=4, source="run/case#1")]))

    assert table_of(path).sources == (f"{path}, record 0", "run/case#1")
    assert table_of([a_record()]).sources == (None,)


def many_records(n_records: int) -> Iterator[dict[str, object]]:
    """Yield records that share no object, with a name and a number that no other has."""
    for number in range(n_records):
        yield a_record(
            actual_vision_tokens=100 + number,
            source=f"a folder of results/run.json, case {number}",
            configuration={"temperature": number / 7},
            question=f"What is in picture {number}?",
            joule=number / 3,
        )


def traced_table(n_records: int) -> tuple[Table, int]:
    tracemalloc.start()
    try:
        return table_of(many_records(n_records)), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_table_takes_less_than_200_bytes_a_record_while_records_stream() -> None:
    """Beyond the few thousands that are held as they came until they become columns."""
    table, peak_bytes = traced_table(18_000)
    _smaller, smaller_peak_bytes = traced_table(6_000)

    assert (peak_bytes - smaller_peak_bytes) / 12_000 < 200
    assert len(set(table.sources)) == 18_000
    assert table.undeclared["temperature"].values()[7] == 1.0  # type: ignore[index]  # a column
    assert table.further["joule"].has_many


WAITED = {"measure": "wall_ms", "device": "cpu", "contended_ratio": 0.4, "schema_version": 1}


@pytest.mark.parametrize(
    ("fields", "is_warned"),
    [({}, True), ({"contended_ratio": 0.01}, False), ({"device": "cuda:0 (A GPU)"}, False)],
)
def test_wall_times_of_a_contended_cpu_are_warned_of(
    fields: dict[str, object], *, is_warned: bool
) -> None:
    record = a_record(**{**WAITED, "T_total": 200.0, **fields})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table_of([record])

    assert [warning.category for warning in caught] == [ContendedRecords] * is_warned
