"""One measured call to look at: made like a round, again while it is disturbed, blocks and all."""

from collections.abc import Iterator, Mapping

import pytest
import torch
from transformers import CompileConfig

from pytest_vlmlatency import InvalidMeasurement
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.measure.single import Single, observe
from pytest_vlmlatency.options import Options
from tests.builders import FakeClock
from tests.measure.custom_models import ASKED, Captioner
from tests.zoo import Specimen, block_modules

N_UNTIL_MEASURED = 5
"""Two unmeasured calls, the watched one, the rehearsal: the fifth is the measured one."""


@pytest.fixture
def compiler() -> Iterator[None]:
    """Give a test a compiler that has compiled nothing, and forget what it compiled."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def look(
    specimen: Specimen, *, has_blocks: bool = True, more: Mapping[str, object] | None = None
) -> Single:
    target = find_target(specimen.generate, (), {**specimen.inputs, **(more or {})}, None)
    return observe(target, Options(threads=0), has_blocks=has_blocks, report=lambda _line: None)


def looked_at(model: Captioner, clock: FakeClock) -> Single:
    target = find_target(model.generate, (), ASKED, None)
    return observe(target, Options(threads=0), clock=clock, report=lambda _line: None)


class Disturbance:
    """Takes time that belongs to no phase: so many ms in each call, by its number."""

    def __init__(self, clock: FakeClock, times_ms: Mapping[int, float]) -> None:
        self.clock, self.times_ms, self.n = clock, times_ms, 0

    def __call__(self) -> None:
        self.n += 1
        self.clock.advance_ms(self.times_ms.get(self.n, 0))


def moving(model: Captioner, clock: FakeClock) -> Captioner:
    """Let each block take a ms: on a clock that stands still, decode would take no time."""
    for block in model.blocks:
        block.register_forward_hook(lambda *_: clock.advance_ms(1))
    return model


def test_a_disturbed_call_is_made_again(clock: FakeClock) -> None:
    disturbance = Disturbance(clock, {N_UNTIL_MEASURED: 50})

    single = looked_at(moving(Captioner(preprocess=disturbance), clock), clock)

    assert single.disturbed_because is None
    assert disturbance.n == N_UNTIL_MEASURED + 2  # once more, and the one that is traced


def test_a_call_that_is_always_disturbed_says_so(clock: FakeClock) -> None:
    measured = range(N_UNTIL_MEASURED, N_UNTIL_MEASURED + 3)
    disturbance = Disturbance(clock, dict(zip(measured, (50, 200, 800), strict=True)))

    single = looked_at(moving(Captioner(preprocess=disturbance), clock), clock)

    assert single.disturbed_because is not None
    assert single.disturbed_because.startswith("other took 800.00 cpu_ms")


def test_what_every_call_does_is_no_disturbance(clock: FakeClock) -> None:
    preprocess = Disturbance(clock, dict.fromkeys(range(20), 50.0))

    single = looked_at(moving(Captioner(preprocess=preprocess), clock), clock)

    assert single.disturbed_because is None
    assert single.observation.call.other_ms == 50


def test_blocks_that_are_compiled_one_by_one_are_timed_from_outside(
    llava: Specimen, compiler: None
) -> None:
    for block in block_modules(llava):
        block.compile(backend="eager", dynamic=True)

    single = look(llava)

    assert len(single.block_runs) == llava.n_blocks * single.observation.recorder.n_forwards
    assert single.disturbed_because is None


def test_blocks_inside_compiled_code_are_refused(llava: Specimen, compiler: None) -> None:
    llava.model.get_submodule("model.language_model").compile(backend="eager", dynamic=True)

    assert look(llava, has_blocks=False).block_runs == ()
    with pytest.raises(
        InvalidMeasurement,
        match=r"^the blocks run in 'model.language_model', which is compiled as a whole: hooks",
    ):
        look(llava)


def test_blocks_in_steps_that_generate_compiles_are_refused(
    llava: Specimen, compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llava.model, "_valid_auto_compile_criteria", lambda *_: True, raising=False)
    static: dict[str, object] = {
        "cache_implementation": "static",
        "compile_config": CompileConfig(backend="eager", mode="default"),
    }

    assert look(llava, has_blocks=False, more=static).observation.recorder.is_step_compiled
    with pytest.raises(
        InvalidMeasurement,
        match=r"^the blocks run in decode steps, which generate\(\) compiles by itself: hooks",
    ):
        look(llava, more=static)
