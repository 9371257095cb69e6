"""Measuring leaves no trace: not on the model, not on the process, also when a call raises."""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.discovery.cache import MEMORY
from tests.builders import FakeClock
from tests.footprint import differences, footprint
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo import ENCODES_EACH_STEP, Specimen, available, block_modules, build, vision_module
from tests.zoo.earlier import ENCODES_FIRST
from tests.zoo.shrink import EOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_vlmlatency.calls.clock import Stamp

FAMILIES = tuple(name for name in available() if name not in ENCODES_EACH_STEP)
N_CALLS = 5
"""Unmeasured, watched, unmeasured, rehearsed, a round; or two unmeasured, rehearsed, two rounds."""
NO_CALL = -1
MODES: dict[str, dict[str, object]] = {
    "greedy": {},
    "per token": {},
    "text alone": {},
    "one token": {"max_new_tokens": 1},
    "beams": {"num_beams": 2},
    # Earlier transformers look for an end in what they draft.
    "prompt lookup": {"prompt_lookup_num_tokens": 2, "eos_token_id": EOS},
    "static cache": {"cache_implementation": "static"},
    "chunks": {"prefill_chunk_size": 10},
    "no cache": {"use_cache": False},
}
REFUSED_WITH_EARLIER = {
    "chunks": pytest.mark.skipif(
        not CHUNKS_BY_CALL, reason="this transformers runs chunks past the model's call: refused"
    ),
    "no cache": pytest.mark.skipif(
        not ENCODES_FIRST, reason="this transformers encodes anew without a cache: refused"
    ),
}


class Fault(Exception):
    """Thrown on purpose, inside generate()."""


class Interrupt(BaseException):
    """As if the user had pressed Ctrl-C there."""


@dataclass
class Trigger:
    """Raises in one call, at one run of what it is put into."""

    call: int
    run: int
    kind: type[BaseException]
    n_calls: int = 0
    n_runs: int = 0
    has_fired: bool = False

    def next_call(self) -> None:
        self.n_calls += 1
        self.n_runs = 0

    def __call__(self, *values: object) -> object:
        """Raise, or return the second value, as a logits processor does its scores."""
        self.n_runs += 1
        if (self.n_calls, self.n_runs) == (self.call, self.run):
            self.has_fired = True
            raise self.kind
        return values[1] if len(values) > 1 else None


class Never:
    """A stopping criterion that stops nothing, and may raise."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger

    def __call__(self, ids: torch.Tensor, _scores: object, **_more: object) -> torch.Tensor:
        self._trigger()
        return torch.zeros(len(ids), dtype=torch.bool)


@contextmanager
def replaced(module: torch.nn.Module, name: str, trigger: Trigger) -> Iterator[None]:
    method: Callable[..., object] = getattr(module, name)

    @functools.wraps(method)
    def failing(*args: object, **kwargs: object) -> object:
        trigger()
        return method(*args, **kwargs)

    vars(module)[name] = failing
    try:
        yield
    finally:
        del vars(module)[name]


MODULES = ("tower", "projector", "first block", "last block", "step")
PLACES = (*MODULES, "preparation", "scores", "stop")
WITHOUT = {"janus": ("scores",), "molmo": ("preparation", "scores", "stop")}
"""What a generate() of a model's own leaves out, or does not take."""
PLACES_OF_FAMILIES = [
    (name, place) for name in FAMILIES for place in PLACES if place not in WITHOUT.get(name, ())
]


@functools.cache
def specimen_of(name: str) -> Specimen:
    """Return a model, the same one each time: what one test leaves, the next one sees."""
    return build(name)


class SteadyClock(FakeClock):
    """Goes on by a tenth of a millisecond whenever it is read: no round is ever disturbed."""

    def stamp(self, *, wait: bool) -> Stamp:
        self.advance_ms(0.1)
        return super().stamp(wait=wait)


def put_into(
    specimen: Specimen, place: str, trigger: Trigger, stack: ExitStack
) -> dict[str, object]:
    """Let one place of a model raise; return what generate() is to be given for it."""
    step = specimen.model.get_submodule(specimen.step_path)
    modules = {
        "tower": vision_module(specimen),
        "first block": block_modules(specimen)[0],
        "last block": block_modules(specimen)[-1],
        "projector": specimen.model.get_submodule(specimen.projector_path or specimen.vision_path),
        "step": step,
    }
    if place in MODULES:
        stack.enter_context(replaced(modules[place], "forward", trigger))
    elif place == "preparation":
        stack.enter_context(replaced(step, "prepare_inputs_for_generation", trigger))
    elif place == "scores":
        return {"logits_processor": [trigger]}
    else:
        return {"stopping_criteria": [Never(trigger)]}
    return {}


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    where=st.sampled_from(PLACES_OF_FAMILIES),
    call=st.integers(1, N_CALLS),
    run=st.integers(1, 3),
    kind=st.sampled_from([Fault, Interrupt]),
    is_remembered=st.booleans(),
)
def test_an_exception_anywhere_leaves_the_model_and_the_process_as_they_were(
    where: tuple[str, str], call: int, run: int, kind: type[BaseException], *, is_remembered: bool
) -> None:
    """Vision runs once in a call; all else runs in every call, the watched one too."""
    name, place = where
    is_vision = place in ("tower", "projector")
    trigger = Trigger(call=NO_CALL, run=1 if is_vision else run, kind=kind)
    specimen = specimen_of(name)
    expected = specimen.generate(**specimen.inputs)
    MEMORY.clear()
    with ExitStack() as stack:
        kwargs = specimen.inputs | put_into(specimen, place, trigger, stack)
        if is_remembered:
            measure_generate(specimen.generate, kwargs=kwargs, rounds=1, clock=SteadyClock())
        trigger.call = call
        before = footprint(specimen.model)

        with suppress(Fault, Interrupt):
            measure_generate(
                specimen.generate,
                kwargs=kwargs,
                setup=trigger.next_call,
                rounds=2,
                clock=SteadyClock(),
            )

        assert trigger.has_fired
        assert differences(before, footprint(specimen.model)) == {}
    assert torch.equal(specimen.generate(**specimen.inputs), expected)


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=REFUSED_WITH_EARLIER.get(mode, ())) for mode in MODES]
)
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
def test_measuring_leaves_the_model_and_the_process_as_they_were(name: str, mode: str) -> None:
    specimen = specimen_of(name)
    inputs = specimen.text_inputs if mode == "text alone" else specimen.inputs
    assert inputs is not None
    kwargs = {**inputs, **MODES[mode]}
    expected = specimen.generate(**kwargs)
    before = footprint(specimen.model)

    measure_generate(
        specimen.generate,
        kwargs=kwargs,
        rounds=2,
        per_token=mode == "per token",
        clock=SteadyClock(),
    )

    assert differences(before, footprint(specimen.model)) == {}
    assert torch.equal(specimen.generate(**kwargs), expected)


@pytest.mark.parametrize("settings", [{"use_cache": False}, {"num_beams": 2, "use_cache": False}])
def test_a_refused_measurement_leaves_the_model_and_the_process_as_they_were(
    settings: dict[str, object], mllama: Specimen
) -> None:
    kwargs = {**mllama.inputs, **settings}
    expected = mllama.generate(**kwargs)
    before = footprint(mllama.model)

    with pytest.raises(InvalidMeasurement, match="worked on the pixels again in decode steps"):
        measure_generate(mllama.generate, kwargs=kwargs, rounds=2)

    assert differences(before, footprint(mllama.model)) == {}
    assert torch.equal(mllama.generate(**kwargs), expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_measuring_leaves_every_family_as_it_was(name: str) -> None:
    specimen = specimen_of(name)
    expected = specimen.generate(**specimen.inputs)
    before = footprint(specimen.model)

    measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=1, clock=SteadyClock())

    assert differences(before, footprint(specimen.model)) == {}
    assert torch.equal(specimen.generate(**specimen.inputs), expected)
