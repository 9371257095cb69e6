"""What is no input is the same in all records, or told; an update of another one is refused."""

import warnings
from collections.abc import Mapping

import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import MixedRecords, RecordsLeftOut, table_of
from pytest_vlmlatency.estimator.inputs import Knob
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import simulated
from tests.estimator.records import a_record

CONDITIONS = {
    "measure": "cpu_ms",
    "model": "Molmo",
    "n_parameters": 7,
    "dtype": "float32",
    "device": "cpu",
    "batch_size": 2,
    "n_threads": 4,
}
OTHERS = {
    "model": "Qwen",
    "n_parameters": 8,
    "dtype": "bfloat16",
    "device": "cuda",
    "batch_size": 3,
    "n_threads": 1,
}


def records(n_records: int, **fields: object) -> list[dict[str, object]]:
    return [
        a_record(T_LLM_prefill=50.0 + index + len(fields), **fields) for index in range(n_records)
    ]


@pytest.fixture
def conditioned() -> RooflineEstimator:
    return RooflineEstimator().fit([record | CONDITIONS for record in simulated(60)])


@pytest.mark.parametrize(("name", "value"), OTHERS.items())
def test_records_that_differ_in_what_is_no_input_are_counted(name: str, value: object) -> None:
    usual = records(5, **CONDITIONS)
    other = [record | {name: value} for record in records(2, **CONDITIONS, source="other")]

    with pytest.warns(MixedRecords) as told:
        table = table_of([*usual, *other])

    assert len(table) == 7
    assert name not in table.conditions
    assert [str(one.message) for one in told] == [
        "records that differ in what is no input are fitted together, and no prediction can tell "
        "them apart:\n"
        f"  {name}: {CONDITIONS[name]} (5), {value} (2)\n"
        "fit them apart, or declare what differs as a knob, such as "
        f'Knob("{name}", is_category=True)'
    ]


def test_parameters_that_go_with_the_blocks_are_of_one_model() -> None:
    sizes = [records(3, num_active_blocks=n, n_parameters=100 * n) for n in (8, 16)]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of([*sizes[0], *sizes[1]])

    assert "n_parameters" not in table.conditions


def test_what_some_records_do_not_say_is_counted_as_well() -> None:
    with pytest.warns(MixedRecords, match=r"model: unsaid \(3\), Molmo \(1\)"):
        table_of([*records(3), *records(1, model="Molmo", source="new")])


def test_of_many_models_the_most_frequent_are_shown() -> None:
    mixed = [record | {"model": f"m{index}"} for index, record in enumerate(records(8))]

    with pytest.warns(MixedRecords, match=r"model: m0 \(1\), .* m4 \(1\), and 3 more"):
        table_of(mixed)


def test_a_warning_of_mixed_records_is_one_of_records_left_out() -> None:
    """Whoever turns those into errors means this one, too."""
    assert issubclass(MixedRecords, RecordsLeftOut)


def test_a_declared_knob_is_no_condition() -> None:
    mixed = [
        record | {"dtype": dtype}
        for dtype in ("float16", "float32")
        for record in records(4, source=dtype)
    ]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of(mixed, knobs=[Knob("dtype", is_category=True)])

    assert len(table.configurations) == 2


def test_records_of_one_kind_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = table_of(records(5, **CONDITIONS))

    assert table.conditions == {name: str(value) for name, value in CONDITIONS.items()}


def test_cpu_times_beside_wall_times_are_left_out() -> None:
    mixed = [*records(4, measure="wall_ms"), *records(3, measure="cpu_ms")]

    with pytest.warns(RecordsLeftOut, match="of another kind of time: 3"):
        table = table_of(mixed)

    assert (len(table), table.conditions["measure"]) == (4, "wall_ms")


@pytest.mark.parametrize(("name", "value"), [*OTHERS.items(), ("measure", "wall_ms")])
def test_an_update_of_another_condition_is_refused(
    conditioned: RooflineEstimator, name: str, value: object
) -> None:
    before = conditioned.state

    message = f"record's {name} is {value}, and all records that this .* have {CONDITIONS[name]}"
    with pytest.raises(EstimatorProblem, match=message):
        conditioned.update(a_record(**(CONDITIONS | {name: value})))

    assert conditioned.state == before


@pytest.mark.parametrize("said", [CONDITIONS, {"measure": "cpu_ms", "batch_size": 2}])
def test_an_update_of_the_same_conditions_is_taken(
    conditioned: RooflineEstimator, said: Mapping[str, object]
) -> None:
    before = conditioned.state

    conditioned.update(a_record(**said))

    assert conditioned.state != before
