"""What a measurement refuses for its arguments, callables and models, and what to do."""

from typing import cast

import pytest
import torch
from transformers import DynamicCache

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.errors import PhasesNotFound, UsageProblem
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen
from tests.zoo.earlier import CACHE


def test_setup_and_arguments_together_are_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"setup returned arguments, but args or kwargs"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, setup=lambda: ((), llava.inputs), rounds=1
        )


def test_a_setup_that_returns_nonsense_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"setup returned int; expected \(args, kwargs\)"):
        measure_generate(llava.generate, setup=lambda: 3, rounds=1)


def test_a_function_that_never_generates_is_refused(llava: Specimen) -> None:
    with pytest.raises(InvalidMeasurement, match=r"returned without calling LlavaFor"):
        measure_generate(lambda: 3, model=llava.model, rounds=1)


def test_a_function_that_generates_twice_is_refused(llava: Specimen) -> None:
    def twice(**inputs: torch.Tensor) -> None:
        llava.model.generate(**inputs)  # type: ignore[operator]  # a method
        llava.model.generate(**inputs)  # type: ignore[operator]  # a method

    with pytest.raises(InvalidMeasurement, match=r"called generate\(\) more than once"):
        measure_generate(twice, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_a_callable_without_a_model_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"cannot tell which model len runs.*model=model"):
        measure_generate(len, rounds=1)


def test_a_model_that_cannot_generate_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"Linear has no generate\(\)"):
        measure_generate(print, model=torch.nn.Linear(2, 2), rounds=1)


def test_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"expected something to call"):
        measure_generate(cast("type", 3), rounds=1)


def test_no_rounds_are_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"rounds is 0; expected a whole number of at least 1"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=0)


def test_pixels_without_placeholders_are_refused(llava: Specimen) -> None:
    assert llava.text_inputs is not None
    kwargs = {**llava.text_inputs, "pixel_values": llava.inputs["pixel_values"]}

    with pytest.raises(UsageProblem, match=r"pixels were passed \(pixel_values\) but input_ids"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=1)


def test_placeholders_without_pixels_are_refused(llava: Specimen) -> None:
    kwargs = {name: value for name, value in llava.inputs.items() if name != "pixel_values"}

    with pytest.raises(UsageProblem, match=r"holds 16 image placeholder tokens but no pixels"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=1)


def test_a_grown_cache_is_refused_with_advice(llava: Specimen) -> None:
    assert llava.text_inputs is not None
    kwargs = {**llava.text_inputs, CACHE: DynamicCache()}

    with pytest.raises(InvalidMeasurement, match=rf"{CACHE}: cache\[0\] then cache\[\d+\]"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=3)


def test_rounds_with_other_lengths_are_refused(llava: Specimen, clock: FakeClock) -> None:
    lengths = iter([4, 4, 4, 4, 4, 5])

    def chat(**inputs: torch.Tensor) -> object:
        return llava.model.generate(**inputs, max_new_tokens=next(lengths))  # type: ignore[operator]  # a method

    with (
        delayed(llava.model, lambda: clock.advance_ms(1)),
        pytest.raises(
            InvalidMeasurement, match=r"round 2 did other work .*output tokens: 4 then 5"
        ),
    ):
        measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=3, clock=clock)


def test_a_path_that_does_not_exist_lists_near_matches(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"near matches: .*'model.vision_tower'"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, phases={"vision": "model.visin_tower"}
        )


def test_a_model_without_blocks_is_refused_with_how_to_name_them(llava: Specimen) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)

        def generate(self, input_ids: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                self.head(torch.zeros(1, 2))
            return input_ids

    model = Bare()
    with pytest.raises(PhasesNotFound, match=r"no list of blocks was seen.*name them by hand"):
        measure_generate(model.generate, args=[torch.zeros(1, 2, dtype=torch.long)], rounds=1)


def test_a_bound_on_something_unknown_is_refused(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    with pytest.raises(UsageProblem, match=r"does not know decod_ms"):
        case.check(decod_ms=3)


def test_no_secret_argument_reaches_the_record(llava: Specimen) -> None:
    generate = llava.generate

    def chat(token: str, **inputs: torch.Tensor) -> object:
        return generate(**inputs)

    llava.model.generate = chat  # type: ignore[assignment]  # a generate of the model's own
    case = measure_generate(
        chat, model=llava.model, kwargs={**llava.inputs, "token": "hf_secret"}, rounds=1
    )

    assert "hf_secret" not in repr(case)
