"""torch.compile beside a measurement: measured or refused by name, and never set off by it."""

import functools
import shutil
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.utils import counters

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.compilation import n_compilations
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.compiled import COUNTED_ALONE, WAYS, Backend, language_model_path
from tests.modes.installed import CHUNKS_BY_CALL
from tests.threads import torch_threads
from tests.zoo import Specimen, block_modules, build, vision_module
from tests.zoo.earlier import ENCODES_FIRST, NO_RECIPE

CALLS_BEFORE_ROUNDS = 4
"""One watched, two unmeasured, one rehearsal."""
N_COMPILED_CALLS = 5
"""Two unmeasured, one rehearsal, two rounds; the watched one runs what is compiled uncompiled."""
STEP_GRAPHS = {way: 4 if "block" in way else 1 for way in WAYS if "tower" not in way}
"""How many graphs a step runs: one, or one for each block."""
WITH_TWO_THREADS = ("model.forward", "each block.compile()", "by generate(), static cache")
"""The others are the same code: all of them with two threads are in docs/coverage.md."""

RECOMPILE_LIMIT = 8
ENOUGH_FOR_ALL_BLOCKS = RECOMPILE_LIMIT if COUNTED_ALONE else 64
pytestmark = pytest.mark.filterwarnings(  # torch 2.6 warns of a part of its own
    "ignore:.*torch.autograd.function.Function.* should not be instantiated:DeprecationWarning"
)


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    """Give each test a compiler that has compiled nothing, and forget what it compiled.

    Its limit is torch's own: earlier transformers raise it for good when they run chunks. One
    thread, as in a measurement: torch compiles anew for another number.
    """
    torch.compiler.reset()
    counters.clear()
    with torch_threads(1), torch._dynamo.config.patch(cache_size_limit=RECOMPILE_LIMIT):
        yield
    torch.compiler.reset()


def encoded_first(*values: object) -> object:
    """Return a model's name and more, for a test of images that are encoded before its forward."""
    return pytest.param(
        *values,
        marks=[
            pytest.mark.skipif(
                not ENCODES_FIRST, reason="images are encoded inside the model's forward: see below"
            ),
            pytest.mark.skipif(values[0] in NO_RECIPE, reason="transformers' own is broken"),
        ],
    )


def way_of(name: str, *values: object) -> object:
    """Return a way to compile; in some of them an earlier transformers cannot be measured."""
    if "chunks" in name:
        reason = "chunks run past the model's call: refused"
        return pytest.param(
            name, *values, marks=pytest.mark.skipif(not CHUNKS_BY_CALL, reason=reason)
        )
    return encoded_first(name, *values) if name.startswith("model") else pytest.param(name, *values)


def measure(specimen: Specimen, *, rounds: int = 2) -> Case:
    return measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=rounds)


def compile_forward(module: torch.nn.Module) -> None:
    """Compile a module's forward, so that its own hooks fire and none inside do."""
    compiled = torch.compile(module.forward, backend="eager")
    vars(module)["forward"] = functools.wraps(module.forward)(compiled)


def compile_forward_of_blocks(specimen: Specimen) -> None:
    for block in block_modules(specimen):
        compile_forward(block)


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
    ("way", "n_threads"),
    [*(way_of(way, 1) for way in STEP_GRAPHS), *(way_of(way, 2) for way in WITH_TWO_THREADS)],
)
def test_a_compiled_model_is_measured_labelled_and_compiled_no_further(
    llava: Specimen, way: str, n_threads: int, clock: FakeClock
) -> None:
    """Each run of a graph takes 1 ms, and the tower, not compiled, 60 ms."""
    backend = Backend(on_run=lambda: clock.advance_ms(1))
    kwargs = llava.inputs | WAYS[way](llava, backend)
    with (
        torch_threads(n_threads),
        delayed(vision_module(llava), lambda: clock.advance_ms(60)),
        torch._dynamo.config.patch(cache_size_limit=ENOUGH_FOR_ALL_BLOCKS),
    ):
        expected = llava.generate(**kwargs)
        n_compiled, n_runs = n_compilations(), backend.n_runs
        llava.generate(**kwargs)
        n_runs_bare = backend.n_runs - n_runs

        case = measure_generate(llava.generate, kwargs=kwargs, rounds=2, clock=clock)
        n_runs_all = backend.n_runs
        output = llava.generate(**kwargs)

    call = case.calls[0]
    assert (call.vision_ms, call.other_ms) == (60, 0)
    assert call.decode_ms == STEP_GRAPHS[way] * call.n_decode_steps
    assert call.prefill_ms == n_runs_bare - call.decode_ms
    assert "compiled" in case.labels
    assert case.discarded == ()
    assert case.n_threads == n_threads
    assert [note.partition(",")[0] for note in case.notes] == ["something is compiled"] * (
        n_threads - 1
    )
    assert n_compilations() == n_compiled
    assert n_runs_all - n_runs == n_runs_bare * (1 + N_COMPILED_CALLS)
    assert backend.n_runs - n_runs_all == n_runs_bare
    assert torch.equal(output, expected)


@pytest.mark.parametrize("way", ["tower's forward", "tower.compile()"])
def test_time_inside_a_compiled_tower_is_vision(
    llava: Specimen, way: str, clock: FakeClock
) -> None:
    backend = Backend(on_run=lambda: clock.advance_ms(60))
    kwargs = llava.inputs | WAYS[way](llava, backend)
    with delayed(block_modules(llava)[-1], lambda: clock.advance_ms(1)):
        case = measure_generate(llava.generate, kwargs=kwargs, rounds=1, clock=clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms) == (60, 1, 7, 0)
    assert case.labels == ("compiled",)
    assert backend.n_graphs == 1


@pytest.mark.parametrize(
    ("name", "part", "way"),
    [
        ("mllama", "model.vision_model", "model.compile()"),
        encoded_first("llama4", "multi_modal_projector", "model.forward"),
        pytest.param(
            "llava",
            "model.get_image_features",
            "model.forward",
            marks=pytest.mark.skipif(ENCODES_FIRST, reason="images are encoded before: see above"),
        ),
    ],
)
def test_vision_inside_a_compiled_region_is_refused_by_name_and_nothing_compiled_anew(
    name: str, part: str, way: str
) -> None:
    specimen = build(name)
    WAYS[way](specimen, Backend())
    generate_times(specimen, 2)
    n_before = n_compilations()

    with pytest.raises(
        InvalidMeasurement, match=rf"^'{part}' runs inside 'the model', which is compiled as a"
    ):
        measure(specimen)
    generate_times(specimen, 1)

    assert n_compilations() == n_before


@pytest.mark.skipif(not CHUNKS_BY_CALL, reason="transformers fails: its cache holds all the image")
def test_vision_inside_chunks_that_generate_compiles_is_refused_by_name(mllama: Specimen) -> None:
    kwargs = mllama.inputs | WAYS["by generate(), in chunks"](mllama, Backend())

    with pytest.raises(
        InvalidMeasurement,
        match=r"^'model.vision_model' runs inside a forward that generate\(\)",
    ):
        measure_generate(mllama.generate, kwargs=kwargs, rounds=1)


def test_a_compiled_generate_is_refused(llava: Specimen) -> None:
    vars(llava.model)["generate"] = torch.compile(llava.generate, backend="eager")

    with pytest.raises(UsageProblem, match=r"^generate\(\) of LlavaForCond.* itself is compiled"):
        measure_generate(llava.generate, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_torch_compile_of_the_model_measures_what_its_generate_runs(llava: Specimen) -> None:
    backend = Backend()
    compiled = torch.compile(llava.model, backend=backend)

    case = measure_generate(
        lambda **inputs: compiled.generate(**inputs),  # type: ignore[attr-defined]  # the model's
        model=compiled,
        kwargs=llava.inputs,
        rounds=1,
    )

    assert backend.n_graphs == 0
    assert "compiled" not in case.labels
    assert case.calls[0].n_vision_calls == 1


def test_what_runs_uncompiled_by_the_stance_in_force_is_no_compiled_region(
    mllama: Specimen,
) -> None:
    WAYS["model.forward"](mllama, Backend())

    with torch.compiler.set_stance("force_eager"):
        case = measure(mllama)

    assert case.labels == ()


def test_a_recompile_limit_that_was_reached_is_noted(llava: Specimen) -> None:
    """All blocks share one function, and the count of its compilations."""
    for block in block_modules(llava):
        block.compile(backend="eager")

    case = measure(llava)

    assert case.labels == ("compiled",)
    assert [note.partition(" times")[0] for note in case.notes] == [
        "torch.compile reached its recompile limit 1"
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch warns of a part of its own
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_what_inductor_compiles_is_measured(llava: Specimen) -> None:
    path = language_model_path(llava)
    module = llava.model.get_submodule(path)
    vars(module)["forward"] = torch.compile(module.forward)
    generate_times(llava, 2)
    n_before = n_compilations()

    case = measure(llava)

    assert n_compilations() == n_before
    assert case.labels == ("compiled",)
    assert case.phase_map is not None
    assert case.phase_map.entry == path


def test_where_fewer_threads_are_asked_for_it_is_compiled_once_more_before_the_rounds(
    llava: Specimen,
) -> None:
    way = "language model's forward"
    kwargs = llava.inputs | WAYS[way](llava, Backend())
    with torch_threads(2):
        llava.generate(**kwargs)
        n_for_two = n_compilations()

        case = measure_generate(llava.generate, kwargs=kwargs, rounds=2, threads=1)
        n_for_both = n_compilations()
        llava.generate(**kwargs)

    assert case.discarded == ()
    assert case.notes == ()
    assert n_for_both > n_for_two
    assert n_compilations() == n_for_both
