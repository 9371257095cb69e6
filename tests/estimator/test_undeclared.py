"""Knobs of records that were not declared: named, with the error that they would save."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.inputs import Knob
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.undeclared import (
    UndeclaredKnobs,
    undeclared_knobs,
    undeclared_text,
)
from pytest_vlmlatency.export import write_records
from tests.estimator.machines import simulated

if TYPE_CHECKING:
    from pathlib import Path

TIMES = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode")


def with_knob(records: list[dict[str, object]], **levels: float) -> list[dict[str, object]]:
    """Return records in which a knob `engine` takes one level or another, with its factor."""
    names = list(levels)
    found = []
    for number, record in enumerate(records):
        name = names[number % len(names)]
        times = {time: float(str(record[time])) * levels[name] for time in TIMES}
        found.append({**record, **times, "configuration": {"engine": name}, "source": str(number)})
    return found


def test_a_knob_that_halves_times_is_named_with_the_error_that_it_would_save() -> None:
    table = table_of(with_knob(simulated(400), eager=1.0, compiled=0.5))

    (found,) = undeclared_knobs(table)

    assert (found.name, found.levels) == ("engine", ("eager", "compiled"))
    assert found.option == "--knob engine:category"
    assert found.without["T_prefill_total"] > 0.2
    assert found.declared["T_prefill_total"] < 0.05
    assert found.declared["T_decode_per_step"] < found.without["T_decode_per_step"] / 3


def test_a_number_is_declared_as_an_amount() -> None:
    records = [
        {**record, "configuration": {"crops": 1 + number % 3}, "source": str(number)}
        for number, record in enumerate(simulated(300))
    ]

    (found,) = undeclared_knobs(table_of(records))

    assert found.option == "--knob crops"
    assert set(found.declared) == {"T_prefill_total", "T_decode_per_step"}


def test_a_knob_that_is_declared_or_the_same_in_all_is_not_named() -> None:
    records = with_knob(simulated(60), eager=1.0, compiled=0.5)
    alike = with_knob(simulated(60), eager=1.0)

    assert undeclared_knobs(table_of(records, knobs=[Knob("engine", is_category=True)])) == ()
    assert undeclared_knobs(table_of(alike)) == ()
    assert undeclared_text(()) == ""


def test_a_knob_that_some_records_lack_is_named_without_an_error() -> None:
    records = with_knob(simulated(60), eager=1.0, compiled=0.5)
    records[3] |= {"configuration": {}}

    (found,) = undeclared_knobs(table_of(records))

    assert (found.n_lacking, found.declared) == (1, {})
    assert "1 records lack it" in undeclared_text([found])


def test_fitting_records_warns_of_it_and_fitting_them_declared_does_not() -> None:
    records = with_knob(simulated(200), eager=1.0, compiled=0.5)

    with pytest.warns(UndeclaredKnobs, match="--knob engine:category"):
        RooflineEstimator().fit(records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RooflineEstimator(knobs=[Knob("engine", is_category=True)]).fit(records)


def test_the_command_says_it_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    write_records(with_knob(simulated(200), eager=1.0, compiled=0.5), path)

    status = cli.main(
        ["estimator", "train", "--results_dir", str(path), "--output_dir", str(tmp_path)]
    )

    assert status == 0
    assert "declare them: --knob engine:category" in capsys.readouterr().err


def test_a_field_of_the_users_own_is_named_where_it_explains_the_error() -> None:
    records = [
        {**record, "engine": record["configuration"]["engine"], "configuration": {}}  # type: ignore[index]  # as with_knob has it
        for record in with_knob(simulated(300), eager=1.0, compiled=0.5)
    ]
    mute = [
        {**record, "weekday": ("Monday", "Friday")[number % 2], "question": f"What is {number}?"}
        | {"joule": record["T_LLM_prefill"]}
        for number, record in enumerate(simulated(300))
    ]

    assert [one.name for one in undeclared_knobs(table_of(records))] == ["engine"]
    assert undeclared_knobs(table_of(mute)) == ()
