"""Models inside other modules and objects: measured right, or refused with what to pass."""

import functools
from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import load_model
from tests.builders import FakeClock, delayed
from tests.measure.delays import check_delays, measure_delayed
from tests.zoo import Specimen, build
from tests.zoo.earlier import ENCODES_FIRST
from tests.zoo.once import encoding_once

counts_positions_apart = pytest.mark.skipif(
    not ENCODES_FIRST,
    reason="this transformers counts positions in the forward, and fails there without a cache",
)
FAMILIES = encoding_once("llava", "qwen2_vl", "mllama", "florence2", "git", "blip-2")


class Around(nn.Module):
    """Holds a model, and has no configuration of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: object) -> object:
        return self.model(**inputs)


class Generating(Around):
    """Passes generate() on to the model that it holds."""

    def generate(self, **inputs: object) -> object:
        return self.model.generate(**inputs)  # type: ignore[operator]  # a method, not a module


class Positional(Around):
    """Names none of its arguments."""

    def generate(self, *args: object, **kwargs: object) -> object:
        return self.model.generate(*args, **kwargs)  # type: ignore[operator]  # as above


class Assistant:
    """No module at all: a class that keeps a model and answers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def chat(self, **inputs: object) -> str:
        return str(self.model.generate(**inputs))  # type: ignore[operator]  # as above


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("around", [Generating, Positional])
def test_a_module_around_a_model_is_measured_as_the_model(
    around: Callable[[nn.Module], nn.Module], name: str
) -> None:
    specimen = build(name)
    wrapper = around(specimen.model)

    case = measure_delayed(specimen, wrapper.generate)  # type: ignore[arg-type]  # as above

    check_delays(case, specimen)


def test_modules_around_a_module_are_looked_through(llava: Specimen) -> None:
    wrapper = Generating(Generating(llava.model))

    check_delays(measure_delayed(llava, wrapper.generate), llava)


def test_the_generate_of_an_inner_module_is_measured(llava: Specimen) -> None:
    inner = Around(llava.model).model

    check_delays(measure_delayed(llava, inner.generate), llava)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize("name", FAMILIES)
def test_an_object_that_answers_is_measured_where_its_model_is_given(name: str) -> None:
    specimen = build(name)

    case = measure_delayed(specimen, Assistant(specimen.model).chat, model=specimen.model)

    check_delays(case, specimen)


def test_an_object_that_holds_one_model_needs_no_model(llava: Specimen) -> None:
    check_delays(measure_delayed(llava, Assistant(llava.model).chat), llava)


def test_a_function_whose_names_mean_one_model_needs_no_model(llava: Specimen) -> None:
    assistant, model = Assistant(llava.model), llava.model
    functions: list[Callable[..., object]] = [
        lambda **inputs: assistant.chat(**inputs),
        lambda **inputs: model.generate(**inputs),  # type: ignore[operator]  # as above
    ]

    for_assistant, for_model = (
        measure_generate(function, kwargs=llava.inputs, rounds=1) for function in functions
    )

    assert for_assistant.workload is not None
    assert for_assistant.workload == for_model.workload
    assert for_model.calls[0].n_vision_tokens == llava.n_vision_tokens


def test_a_function_whose_names_mean_two_models_is_refused_without_one(llava: Specimen) -> None:
    first, second = llava.model, build("qwen2_vl").model

    with pytest.raises(UsageProblem, match="cannot tell which model"):
        measure_generate(lambda **inputs: (first, second)[0](**inputs), kwargs=llava.inputs)


def _answer_of_first(held: list[Callable[..., object]], asked: dict[str, object]) -> object:
    return held[0](**asked)


@pytest.mark.parametrize("how", ["pipeline", "lambda", "model="])
def test_a_pipeline_of_transformers_is_measured_with_its_model(how: str) -> None:
    loaded = load_model("dummy:llava-tiny", device="cpu")
    make: Callable[..., Callable[..., object]] = transformers.pipeline
    pipe = make("image-text-to-text", model=loaded.model, processor=loaded.processor)
    content = [{"type": "image", "image": photograph("coffee")}, {"type": "text", "text": "What?"}]
    asked = {"text": [{"role": "user", "content": content}], "max_new_tokens": 3}
    calls: dict[str, tuple[Callable[..., object], dict[str, object]]] = {
        "pipeline": (pipe, {"kwargs": asked}),
        "lambda": (lambda: pipe(**asked), {}),
        "model=": (functools.partial(_answer_of_first, [pipe], asked), {"model": pipe}),
    }
    function, settings = calls[how]

    case = measure_generate(function, rounds=1, warmup_rounds=1, **settings)  # type: ignore[arg-type]  # the settings of this call

    call = case.calls[0]
    assert call.n_output_tokens == 3
    assert call.n_vision_tokens
    assert call.vision_ms > 0
    assert call.outside_ms > 0  # the processor's work


def test_an_object_that_holds_two_models_is_refused_without_one(llava: Specimen) -> None:
    assistant = Assistant(llava.model)
    vars(assistant)["other"] = build("qwen2_vl").model

    with pytest.raises(UsageProblem, match=r"cannot tell which model .*Assistant\.chat runs;.*mod"):
        measure_generate(assistant.chat, kwargs=llava.inputs)


def test_a_partial_generate_on_the_model_is_measured_with_what_it_brings(llava: Specimen) -> None:
    generate = llava.generate
    inputs = {name: llava.inputs[name] for name in ("input_ids", "attention_mask")}
    with_image = functools.partial(generate, pixel_values=llava.inputs["pixel_values"])
    vars(llava.model)["generate"] = functools.partial(with_image, max_new_tokens=4)

    calls = [
        measure_generate(llava.generate, kwargs=inputs, rounds=1),
        measure_generate(functools.partial(llava.generate, **inputs), rounds=1),
        measure_generate(lambda: llava.generate(**inputs), model=llava.model, rounds=1),
        measure_generate(generate, kwargs={**llava.inputs, "max_new_tokens": 4}, rounds=1),
    ]

    assert [case.calls[0].n_output_tokens for case in calls] == [4, 4, 4, 4]
    assert [case.calls[0].n_vision_tokens for case in calls] == [llava.n_vision_tokens] * 4


def test_a_decorated_generate_on_the_model_is_measured(llava: Specimen) -> None:
    generate = llava.generate

    @functools.wraps(generate)
    def decorated(*args: object, **kwargs: object) -> object:
        return generate(*args, **kwargs)

    vars(llava.model)["generate"] = decorated

    check_delays(measure_delayed(llava, decorated), llava)


def test_the_wrappers_own_generate_can_be_timed_around_the_models(llava: Specimen) -> None:
    clock = FakeClock()

    class Slow(Generating):
        def generate(self, **inputs: object) -> object:
            clock.advance_ms(500)
            return super().generate(**inputs)

    slow = Slow(llava.model)
    with delayed(llava.model.get_submodule(llava.block_path)[0], lambda: clock.advance_ms(1)):  # type: ignore[index]  # a list
        case = measure_generate(
            slow.generate, model=slow.model, kwargs=llava.inputs, rounds=1, clock=clock
        )

    assert (case.calls[0].outside_ms, case.calls[0].total_ms) == (500, 8)


def test_a_function_past_the_wrappers_generate_is_refused_with_the_part_to_pass(
    llava: Specimen,
) -> None:
    wrapper = Generating(llava.model)

    def chat(**inputs: object) -> object:
        return wrapper.model.generate(**inputs)  # type: ignore[operator]  # as above

    with pytest.raises(InvalidMeasurement, match=r"without calling Generating.* 'model'; pass tha"):
        measure_generate(chat, model=wrapper, kwargs=llava.inputs)


@pytest.mark.parametrize(
    ("wrap", "part"), [(Around, "model"), (nn.DataParallel, "module")], ids=["module", "parallel"]
)
def test_a_wrapper_that_does_not_generate_is_refused_with_the_part_that_does(
    wrap: Callable[[nn.Module], nn.Module], part: str, llava: Specimen
) -> None:
    with pytest.raises(UsageProblem, match=rf"has no generate\(\).*; inside it, '{part}' has one"):
        measure_generate(lambda: None, model=wrap(llava.model))


def test_the_model_inside_a_data_parallel_is_measured(llava: Specimen) -> None:
    inner = nn.DataParallel(llava.model).module

    check_delays(measure_delayed(llava, inner.generate), llava)  # type: ignore[arg-type]  # a method


def test_a_partial_around_a_wrapper_is_measured(llava: Specimen) -> None:
    chat = functools.partial(Generating(llava.model).generate, do_sample=False)

    check_delays(measure_delayed(llava, chat), llava)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "name",
    [
        *encoding_once("llava", "florence2", "git", "blip-2"),
        pytest.param("qwen2_vl", marks=counts_positions_apart),
    ],
)
def test_gradient_checkpointing_leaves_the_phases_as_they_are(name: str) -> None:
    """It works in training only, without a cache: mllama's last block has nothing to do then."""
    specimen = build(name)
    specimen.model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]  # a method
    specimen.model.train()

    check_delays(measure_delayed(specimen, specimen.generate), specimen)


def test_two_models_measured_in_turn_have_each_their_own_phases() -> None:
    llava, mllama = build("llava"), build("mllama")

    for specimen in (llava, mllama, llava, mllama):
        check_delays(measure_delayed(specimen, specimen.generate), specimen)


def test_hooks_of_the_users_own_stay_and_fire_as_often(llava: Specimen) -> None:
    seen: list[str] = []
    tower = llava.model.get_submodule(llava.vision_path)

    def before(_module: nn.Module, args: object) -> object:
        seen.append("pre")
        return args

    def after(_module: nn.Module, _args: object, output: object) -> object:
        seen.append("post")
        return output

    handles = [tower.register_forward_pre_hook(before), tower.register_forward_hook(after)]
    tables = (dict(tower._forward_pre_hooks), dict(tower._forward_hooks))

    case = measure_delayed(llava, llava.generate)

    check_delays(case, llava)
    assert (dict(tower._forward_pre_hooks), dict(tower._forward_hooks)) == tables
    n_calls = 2 + 1 + 1 + 2  # unmeasured, watched, rehearsal, rounds
    assert seen == ["pre", "post"] * n_calls
    assert [handle.id for handle in handles] == [*tables[0], *tables[1]]


def test_a_users_hook_that_hands_the_tower_a_copy_of_the_pixels_hides_nothing(
    llava: Specimen,
) -> None:
    tower = llava.model.get_submodule(llava.vision_path)
    tower.register_forward_pre_hook(
        lambda _module, args, kwargs: (
            tuple(arg.clone() for arg in args),
            {key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in kwargs.items()},
        ),
        with_kwargs=True,
    )

    check_delays(measure_delayed(llava, llava.generate), llava)
