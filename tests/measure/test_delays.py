"""A known delay in a part of a model comes back in that part's phase, and in no other."""

from dataclasses import dataclass

import pytest
import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.records import Call, Case
from tests.builders import FakeClock, delayed
from tests.measure.delays import DECODE_MS, PROMPT_MS, STEP_MS, VISION_MS, measure_delayed
from tests.zoo import (
    ENCODES_EACH_STEP,
    N_NEW_TOKENS,
    ZOO,
    Specimen,
    available,
    block_modules,
    blocks_of_a_step,
    build,
)
from tests.zoo.earlier import NO_RECIPE

MEASURABLE = [name for name in available() if name not in ENCODES_EACH_STEP]


Traces = dict[str, tuple[tuple[str, ...], int]]


def traces(model: torch.nn.Module) -> Traces:
    """Return what each module has of its own: the names of its attributes, and how many hooks."""
    return {
        path: (tuple(vars(module)), len(module._forward_hooks) + len(module._forward_pre_hooks))
        for path, module in model.named_modules()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One member with its delays measured, what it said, and how it was, before and after."""

    specimen: Specimen
    case: Case
    said: tuple[torch.Tensor, torch.Tensor]
    traces: tuple[Traces, Traces]

    @property
    def call(self) -> Call:
        return self.case.calls[-1]


@pytest.fixture(scope="module", params=MEASURABLE)
def measured(request: pytest.FixtureRequest) -> Measured:
    specimen = build(request.param)
    said = specimen.generate(**specimen.inputs)
    before = traces(specimen.model)
    case = measure_delayed(specimen, specimen.generate)
    return Measured(
        specimen=specimen,
        case=case,
        said=(said, specimen.generate(**specimen.inputs)),
        traces=(before, traces(specimen.model)),
    )


def test_each_delay_comes_back_in_its_phase(measured: Measured) -> None:
    call = measured.call

    assert call.vision_ms == VISION_MS
    assert call.prefill_ms == PROMPT_MS
    assert call.decode_ms == DECODE_MS
    assert call.other_ms == 0
    assert call.text_encoder_ms == 0
    assert call.total_ms == VISION_MS + PROMPT_MS + DECODE_MS
    assert call.ttft_ms == VISION_MS + PROMPT_MS
    assert call.tpot_ms == STEP_MS


def test_the_phases_that_are_found_are_those_of_the_architecture(measured: Measured) -> None:
    specimen, phase_map = measured.specimen, measured.case.phase_map

    assert phase_map is not None
    assert phase_map.step == specimen.step_path
    assert phase_map.blocks == blocks_of_a_step(specimen)
    assert phase_map.vision_runs == specimen.all_vision_runs


def test_the_tokens_are_those_that_the_decoder_sees(measured: Measured) -> None:
    specimen, call = measured.specimen, measured.call

    n_prompt = (call.n_vision_tokens, call.n_text_tokens)
    assert n_prompt == (specimen.n_vision_tokens, specimen.n_text_tokens)
    assert (call.n_output_tokens, call.n_decode_steps) == (N_NEW_TOKENS, N_NEW_TOKENS - 1)


def test_vision_runs_once(measured: Measured) -> None:
    assert measured.call.n_vision_calls == 1


def test_measuring_leaves_the_output_and_the_model_as_they_were(measured: Measured) -> None:
    said_before, said_after = measured.said
    before, after = measured.traces

    assert torch.equal(said_after, said_before)
    assert after == before


@pytest.mark.parametrize("name", [name for name in MEASURABLE if ZOO[name].paths.text_encoder])
def test_a_text_encoder_has_its_own_span(name: str) -> None:
    specimen = build(name)
    clock = FakeClock()
    assert specimen.text_encoder_path is not None
    text_encoder = specimen.model.get_submodule(specimen.text_encoder_path)
    with (
        delayed(text_encoder, lambda: clock.advance_ms(11)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(1)),
    ):
        case = measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=1, clock=clock)

    assert case.calls[0].text_encoder_ms == 11
    assert case.calls[0].other_ms == 0


def test_a_text_encoder_that_guidance_runs_again_is_decode_then() -> None:
    """Once for the prompt, and once more, without it, for the first token that is guided."""
    specimen, clock = build("florence2"), FakeClock()
    assert specimen.text_encoder_path is not None
    with (
        delayed(
            specimen.model.get_submodule(specimen.text_encoder_path), lambda: clock.advance_ms(11)
        ),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(1)),
    ):
        kwargs = {**specimen.inputs, "guidance_scale": 1.5}
        case = measure_generate(specimen.generate, kwargs=kwargs, rounds=1, clock=clock)

    call = case.calls[0]
    assert (call.text_encoder_ms, call.prefill_ms, call.other_ms) == (11, 1, 0)
    assert call.decode_ms > 11


@pytest.mark.skipif(not ENCODES_EACH_STEP, reason="this transformers encodes an image once")
def test_a_model_that_encodes_its_image_in_every_step_is_refused() -> None:
    specimen = build("git")

    with pytest.raises(InvalidMeasurement, match="worked on the pixels again in decode steps"):
        measure_delayed(specimen, specimen.generate)


@pytest.mark.skipif("emu3" not in NO_RECIPE, reason="this transformers hands its pixels on")
def test_a_model_whose_forward_leaves_the_pixels_out_is_refused() -> None:
    specimen = build("emu3")

    with pytest.raises(PhasesNotFound, match="pixels were passed, but no module was seen to work"):
        measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=1)
