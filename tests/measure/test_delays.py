"""A known delay in a part of a model comes back in that part's phase, and in no other."""

from contextlib import ExitStack

import pytest

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.zoo import (
    ENCODES_EACH_STEP,
    N_NEW_TOKENS,
    Specimen,
    available,
    block_modules,
    build,
    vision_module,
)

VISION_MS = 60.0
PROMPT_MS = 30.0
STEP_MS = 7.0
MEASURABLE = [name for name in available() if name not in ENCODES_EACH_STEP]


def measure_with_delays(specimen: Specimen) -> Case:
    """Measure with 60 ms in the tower, 30 ms in the last block's prompt, 7 ms in each step."""
    clock = FakeClock()
    n_runs = 0

    def vision_delay() -> None:
        nonlocal n_runs
        n_runs = 0
        clock.advance_ms(VISION_MS)

    def block_delay() -> None:
        nonlocal n_runs
        clock.advance_ms(STEP_MS if n_runs else PROMPT_MS)
        n_runs += 1

    with ExitStack() as delays:
        delays.enter_context(delayed(vision_module(specimen), vision_delay))
        delays.enter_context(delayed(block_modules(specimen)[-1], block_delay))
        return measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=2, clock=clock)


@pytest.mark.parametrize("name", MEASURABLE)
def test_each_delay_comes_back_in_its_phase(name: str) -> None:
    specimen = build(name)

    call = measure_with_delays(specimen).calls[-1]

    assert call.vision_ms == VISION_MS
    assert call.prefill_ms == PROMPT_MS
    assert call.decode_ms == STEP_MS * (N_NEW_TOKENS - 1)
    assert call.other_ms == 0
    assert call.text_encoder_ms == 0
    assert call.total_ms == VISION_MS + PROMPT_MS + STEP_MS * (N_NEW_TOKENS - 1)
    assert call.ttft_ms == VISION_MS + PROMPT_MS
    assert call.tpot_ms == STEP_MS


@pytest.mark.parametrize("name", MEASURABLE)
def test_what_is_found_is_what_the_architecture_is_made_of(name: str) -> None:
    specimen = build(name)

    case = measure_with_delays(specimen)

    call, phase_map = case.calls[-1], case.phase_map
    assert phase_map is not None
    assert phase_map.step == specimen.step_path
    assert len(phase_map.blocks) == specimen.n_blocks
    assert all(path.startswith(f"{specimen.block_path}.") for path in phase_map.blocks)
    assert phase_map.vision_runs == specimen.all_vision_runs
    assert (call.n_vision_tokens, call.n_text_tokens) == (
        specimen.n_vision_tokens,
        specimen.n_text_tokens,
    )
    assert (call.n_output_tokens, call.n_decode_steps) == (N_NEW_TOKENS, N_NEW_TOKENS - 1)
    assert call.n_vision_calls == 1


@pytest.mark.parametrize("name", ["florence2"])
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


@pytest.mark.skipif(not ENCODES_EACH_STEP, reason="this transformers encodes an image once")
def test_a_model_that_encodes_its_image_in_every_step_is_refused() -> None:
    specimen = build("git")

    with pytest.raises(InvalidMeasurement, match="worked on the pixels again in decode steps"):
        measure_with_delays(specimen)
