"""Configurations: applied, read back, measured in turn, undone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure_interleaved
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import Scalar
from tests.builders import delayed
from tests.zoo import Specimen, vision_module


class Knob:
    """A configuration of one attribute on the model; `is_stuck` makes it take no effect."""

    def __init__(self, value: int, *, is_stuck: bool = False) -> None:
        self._value, self._is_stuck = value, is_stuck

    def values(self) -> Mapping[str, Scalar]:
        return {"knob": self._value}

    @contextmanager
    def apply(self, model: object, /) -> Iterator[None]:
        if not self._is_stuck:
            vars(model)["knob"] = self._value
        try:
            yield
        finally:
            vars(model).pop("knob", None)

    def read_back(self, model: object, /) -> Mapping[str, Scalar]:
        return {"knob": vars(model).get("knob")}


def test_a_configuration_is_part_of_the_case(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, config=Knob(3))

    assert case.config == {"knob": 3}
    assert case.id.endswith("{knob=3}")


def test_a_knob_that_did_not_take_effect_is_refused(llava: Specimen) -> None:
    with pytest.raises(KnobNotApplied, match=r"\{'knob': 3\} did not take .*\{'knob': None\}"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, config=Knob(3, is_stuck=True)
        )


def test_a_configuration_that_cannot_be_applied_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"without values, apply, read_back\(\)"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, config=cast("Knob", 3))


def test_configurations_are_measured_in_turn(llava: Specimen) -> None:
    order: list[object] = []

    def note() -> None:
        order.append(vars(llava.model)["knob"])

    with delayed(vision_module(llava), note):
        measured = measure_interleaved(
            llava.generate,
            kwargs=llava.inputs,
            configs=[Knob(1), Knob(2)],
            options=Options(rounds=3),
            identity=Identity(id="test", name="test"),
        )

    assert order[-6:] == [1, 2, 1, 2, 1, 2]
    assert [one.case.id for one in measured] == ["test{knob=1}", "test{knob=2}"]
    assert "knob" not in vars(llava.model)


def test_nothing_to_interleave_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"no configurations were given"):
        measure_interleaved(
            llava.generate, configs=[], options=Options(), identity=Identity(id="t", name="t")
        )
