"""How many threads a model on the CPU is measured with, where nobody says."""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from transformers import CompileConfig, GenerationConfig

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.machine.cpu import count_cores
from tests.builders import FakeClock
from tests.compiled import WAYS, Backend
from tests.measure.ticking import Ticking
from tests.threads import torch_threads
from tests.zoo import Specimen

N_THREADS = 2
pytestmark = pytest.mark.skipif(count_cores() < N_THREADS, reason="needs two cores")


@pytest.fixture(autouse=True)
def more_threads() -> Iterator[None]:
    torch.compiler.reset()
    with torch_threads(N_THREADS):
        yield
    torch.compiler.reset()


def eager() -> CompileConfig:
    """Return a configuration that compiles on no CPU: being asked is what counts."""
    return CompileConfig(backend="eager")


def inputs_of(specimen: Specimen, clock: FakeClock) -> dict[str, object]:
    """Return inputs with which time passes outside of the model: inside, torch might compile it."""
    return {**specimen.inputs, "logits_processor": [Ticking(clock)]}


def n_threads_of(
    specimen: Specimen, more: Mapping[str, object] | None = None, *, threads: int | None = None
) -> int | None:
    """Measure with a clock moved by hand: several threads of a busy machine disturb rounds."""
    clock = FakeClock()
    kwargs = {**inputs_of(specimen, clock), **(more or {})}
    case = measure_generate(
        specimen.generate, kwargs=kwargs, rounds=1, threads=threads, clock=clock
    )
    return case.n_threads


def test_one_thread_where_nothing_is_compiled(llava: Specimen) -> None:
    assert n_threads_of(llava) == 1
    assert torch.get_num_threads() == N_THREADS


def in_the_call(_specimen: Specimen) -> Mapping[str, object]:
    return {"compile_config": eager()}


def settings_of(specimen: Specimen) -> GenerationConfig:
    settings = specimen.model.generation_config
    assert isinstance(settings, GenerationConfig)
    return settings


def in_its_generation_config(specimen: Specimen) -> Mapping[str, object]:
    settings = copy.deepcopy(settings_of(specimen))
    settings.compile_config = eager()
    return {"generation_config": settings}


def in_the_models_generation_config(specimen: Specimen) -> Mapping[str, object]:
    settings_of(specimen).compile_config = eager()
    return {}


def a_compiled_part(specimen: Specimen) -> Mapping[str, object]:
    return WAYS["tower's forward"](specimen, Backend())


@pytest.mark.parametrize(
    "ask",
    [in_the_call, in_its_generation_config, in_the_models_generation_config, a_compiled_part],
)
def test_as_many_as_torch_has_where_something_may_be_compiled(
    llava: Specimen, ask: Callable[[Specimen], Mapping[str, object]]
) -> None:
    assert n_threads_of(llava, ask(llava)) == N_THREADS
    assert n_threads_of(llava, ask(llava), threads=1) == 1


def test_as_many_as_torch_has_where_generate_compiled_before_with_arguments_unseen(
    llava: Specimen, clock: FakeClock
) -> None:
    kwargs = inputs_of(llava, clock) | WAYS["by generate(), static cache"](llava, Backend())
    llava.generate(**kwargs)

    case = measure_generate(
        lambda: llava.generate(**kwargs), model=llava.model, rounds=1, clock=clock
    )

    assert case.n_threads == N_THREADS


def test_arguments_of_a_partial_are_seen_too(llava: Specimen, clock: FakeClock) -> None:
    call = functools.partial(llava.generate, **inputs_of(llava, clock), compile_config=eager())

    assert measure_generate(call, rounds=1, clock=clock).n_threads == N_THREADS


def test_more_threads_than_cores_are_left_as_they_are(llava: Specimen) -> None:
    with torch_threads(count_cores() + 1):
        assert n_threads_of(llava, a_compiled_part(llava)) == count_cores() + 1
