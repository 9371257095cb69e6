"""What a measurement refuses for its arguments, callables and models, and what to do."""

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import cast

import pytest
import torch
from transformers import DynamicCache, GenerationConfig

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.errors import PhasesNotFound, UsageProblem
from tests.builders import FakeClock, delayed
from tests.zoo import N_NEW_TOKENS, Specimen
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


async def chat(**inputs: object) -> object:
    return inputs


async def stream(**inputs: object) -> AsyncIterator[object]:
    yield inputs


def words(**inputs: object) -> Iterator[object]:
    yield inputs


class Server:
    async def __call__(self) -> None:
        """Serve."""


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (chat, r"^chat is a coroutine function, .*: asyncio.run\(chat\(...\)\), model=model\)$"),
        (stream, r"^stream is an async generator function, .*asyncio.run\(chat"),
        (words, r"^words is a generator function, .*: list\(chat\(...\)\), model=model\)$"),
        (partial(chat, image=1), r"^chat is a coroutine function"),
        (Server(), r"^Server is a coroutine function"),
        (lambda: chat(), r"<lambda> returned a coroutine, .*: asyncio.run"),
        (lambda: stream(), r"<lambda> returned an async generator, .*: asyncio.run"),
        (lambda: words(), r"<lambda> returned a generator, .*: list"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_runs_only_later_is_refused_with_how_to_run_it(
    llava: Specimen, function: Callable[..., object], problem: str
) -> None:
    with pytest.raises(UsageProblem, match=problem):
        measure_generate(function, model=llava.model, rounds=1)


def test_a_generate_that_runs_only_later_is_refused() -> None:
    class Streams(torch.nn.Module):
        def generate(self) -> object:
            return words()

    class Awaits(torch.nn.Module):
        async def generate(self) -> None:
            """Answer later."""

    with pytest.raises(UsageProblem, match=r"^generate\(\) returned a generator"):
        measure_generate(Streams().generate, rounds=1)
    with pytest.raises(UsageProblem, match=r"Awaits.generate is a coroutine function"):
        measure_generate(Awaits().generate, rounds=1)


def test_words_that_a_function_yields_once_it_has_generated_are_its_output(llava: Specimen) -> None:
    def chat() -> Iterator[object]:
        return iter(word for word in llava.generate(**llava.inputs))

    case = measure_generate(chat, model=llava.model, rounds=1)

    assert case.calls[0].n_output_tokens == N_NEW_TOKENS


def has_paged_cache() -> bool:
    try:
        GenerationConfig(cache_implementation="paged")  # type: ignore[no-untyped-call]  # not typed
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "call",
    [
        lambda model: (model.generate_batch, {"inputs": [[1, 2, 3]]}),
        lambda model: (lambda: model.generate_batch(inputs=[[1, 2, 3]]), {}),
        lambda model: (lambda: model.init_continuous_batching().start(), {}),
        pytest.param(
            lambda model: (
                model.generate,
                {"inputs": torch.tensor([[1, 2]]), "cache_implementation": "paged"},
            ),
            marks=pytest.mark.skipif(
                not has_paged_cache(), reason="this transformers refuses the name itself"
            ),
        ),
    ],
    ids=["itself", "inside a function", "a manager", "a paged cache"],
)
def test_continuous_batching_is_refused_before_it_runs(
    llava: Specimen, call: Callable[[object], tuple[Callable[..., object], dict[str, object]]]
) -> None:
    function, kwargs = call(llava.model)

    with pytest.raises(UsageProblem, match=r"serves requests by continuous batching.*model.gener"):
        measure_generate(function, model=llava.model, kwargs=kwargs, rounds=1)


@pytest.mark.parametrize("name", ["forward", "__call__", "get_image_features"])
def test_a_method_that_does_not_generate_is_refused_before_it_runs(
    llava: Specimen, name: str
) -> None:
    with pytest.raises(UsageProblem, match=r"does not call generate\(\);.*pass model.generate$"):
        measure_generate(getattr(llava.model, name), rounds=1)


def test_a_model_instead_of_its_method_is_refused_without_printing_it(llava: Specimen) -> None:
    with pytest.raises(UsageProblem) as raised:
        measure_generate(llava.model, kwargs=llava.inputs)

    assert str(raised.value) == (
        "the model itself was passed, a LlavaForConditionalGeneration; expected its method: "
        "model.generate"
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "got None: pass"),
        ("generate", "got 'generate': pass"),
        (torch.zeros(1, 900), r"got a Tensor: pass the method itself, and its arguments beside it"),
        (torch.nn.Linear, "the class Linear was passed; expected a method"),
    ],
)
def test_what_is_no_function_is_refused_without_printing_all_of_it(
    given: object, shown: str
) -> None:
    with pytest.raises(UsageProblem, match=shown):
        measure_generate(cast("Callable[..., object]", given))


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
