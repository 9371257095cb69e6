"""torch.compile beside a measurement: seen, refused or discarded, and never set off by it."""

import functools
from collections.abc import Callable, Iterator

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.measure.compilation import n_compilations
from pytest_vlmlatency.records import Case
from tests.builders import delayed
from tests.zoo import Specimen, block_modules, vision_module

Compile = Callable[[Specimen], None]
CALLS_BEFORE_ROUNDS = 4
"""One watched, two unmeasured, one rehearsal."""


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Give each test a compiler that has compiled nothing, and forget what it compiled."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def measure(specimen: Specimen, *, rounds: int = 2) -> Case:
    return measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=rounds)


def compile_forward(module: torch.nn.Module) -> None:
    """Compile a module's forward, so that its own hooks fire and none inside do."""
    compiled = torch.compile(module.forward, backend="eager")
    vars(module)["forward"] = functools.wraps(module.forward)(compiled)


def compile_forward_of_blocks(specimen: Specimen) -> None:
    for block in block_modules(specimen):
        compile_forward(block)


def compile_calls_of_blocks(specimen: Specimen) -> None:
    for block in block_modules(specimen):
        block.compile(backend="eager")


def compile_call_of_language_model(specimen: Specimen) -> None:
    specimen.model.get_submodule("model.language_model").compile(backend="eager")


def generate_times(specimen: Specimen, n_calls: int) -> None:
    for _ in range(n_calls):
        specimen.generate(**specimen.inputs)


def compile_something_new() -> None:
    """Compile a function that torch has never seen."""

    def negate(tensor: torch.Tensor) -> torch.Tensor:
        return -tensor

    torch.compiler.reset()
    torch.compile(negate, backend="eager")(torch.ones(3))


def test_a_round_in_which_something_was_compiled_is_discarded(llava: Specimen) -> None:
    n_calls = 0

    def compile_in_the_second_round() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == CALLS_BEFORE_ROUNDS + 2:
            compile_something_new()

    with delayed(vision_module(llava), compile_in_the_second_round):
        case = measure(llava, rounds=3)

    assert len(case.calls) == 3
    assert [call.discarded_because for call in case.discarded] == [
        "torch.compile compiled 1 frames inside the call"
    ]


def test_a_round_in_which_something_was_compiled_again_is_discarded(llava: Specimen) -> None:
    lengths = iter([3] * (CALLS_BEFORE_ROUNDS + 1) + [4, 3, 3])
    double = torch.compile(lambda tensor: tensor * 2, backend="eager", dynamic=False)

    with delayed(vision_module(llava), lambda: double(torch.ones(next(lengths)))):
        case = measure(llava, rounds=3)

    assert [call.discarded_because for call in case.discarded] == [
        "torch.compile compiled 1 frames inside the call"
    ]


def test_blocks_that_were_never_run_are_compiled_before_the_first_round(llava: Specimen) -> None:
    compile_forward_of_blocks(llava)

    case = measure(llava)

    assert case.discarded == ()
    assert case.phase_map is not None
    assert len(case.phase_map.blocks) == llava.n_blocks


@pytest.mark.parametrize("n_calls", [0, 2], ids=["cold", "warm"])
def test_measuring_compiled_blocks_compiles_nothing_for_later_calls(
    llava: Specimen, n_calls: int
) -> None:
    compile_forward_of_blocks(llava)
    generate_times(llava, n_calls)
    n_before = n_compilations()

    measure(llava)
    n_measured = n_compilations()
    generate_times(llava, 1)

    assert (n_measured == n_before) == bool(n_calls)
    assert n_compilations() == n_measured


@pytest.mark.parametrize(
    ("compile_part", "part"),
    [
        (compile_calls_of_blocks, r"'model.language_model.layers.0', 'model.language_model"),
        (compile_call_of_language_model, r"'model.language_model'"),
        (lambda specimen: compile_forward(specimen.model), r"'the model'"),
    ],
    ids=["blocks", "language model", "the model's forward"],
)
def test_a_compiled_region_around_the_boundaries_is_refused_by_name(
    llava: Specimen, compile_part: Compile, part: str
) -> None:
    compile_part(llava)

    with pytest.raises(InvalidMeasurement, match=rf"^{part}.* is compiled as a whole, and hooks"):
        measure(llava)


def test_a_refused_compiled_model_has_nothing_to_compile_anew(llava: Specimen) -> None:
    llava.model.compile(backend="eager")
    generate_times(llava, 2)
    n_before = n_compilations()

    with pytest.raises(InvalidMeasurement, match=r"^'the model' is compiled as a whole"):
        measure(llava)
    generate_times(llava, 1)

    assert n_compilations() == n_before


def test_a_tower_that_is_compiled_as_a_whole_is_measured(llava: Specimen) -> None:
    vision_module(llava).compile(backend="eager")

    case = measure(llava)

    assert case.discarded == ()
    assert case.calls[0].n_vision_calls == 1
    assert case.calls[0].n_vision_tokens == llava.n_vision_tokens
