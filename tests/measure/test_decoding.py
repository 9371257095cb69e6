"""Ways to decode: whose settings are in force, what belongs to the prompt, and what is counted."""

from typing import cast

import pytest
import torch
from transformers import GenerationConfig

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.records import WALL, Case
from tests.builders import FakeClock, delayed
from tests.measure.assistants import small_language_model
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo import N_NEW_TOKENS, Specimen, block_modules, build, vision_module

BLOCK_MS, VISION_MS, DRAFT_MS = 3, 60, 6


def measure(specimen: Specimen, clock: FakeClock, **settings: object) -> Case:
    """Measure with 60 ms in the tower and 3 ms in a block."""
    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(VISION_MS)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        return measure_generate(
            specimen.generate, kwargs={**specimen.inputs, **settings}, rounds=1, clock=clock
        )


def inner_settings(specimen: Specimen) -> GenerationConfig:
    """Return the settings of the language model that blip-2 generates with."""
    language_model = specimen.model.get_submodule("language_model")
    return cast("GenerationConfig", language_model.generation_config)


@pytest.mark.parametrize(
    ("setting", "value", "label"), [("do_sample", True, "sample"), ("num_beams", 3, "beam")]
)
def test_the_mode_is_that_of_the_part_that_generates(
    clock: FakeClock, setting: str, value: object, label: str
) -> None:
    blip = build("blip-2")
    setattr(inner_settings(blip), setting, value)

    case = measure(blip, clock)

    assert case.labels == (label,)
    assert case.workload is not None
    assert case.workload.generation[setting] == value


def test_the_end_token_is_that_of_the_part_that_generates(clock: FakeClock) -> None:
    """The rows are the same but for the image; the end token is one that only the first gives."""
    blip = build("blip-2")
    inputs = {name: torch.cat([value, value]) for name, value in blip.inputs.items()}
    inputs["pixel_values"][1] *= -3
    rows = blip.generate(**inputs)[:, -8:].tolist()
    end = next(token for token in rows[0] if token not in rows[1])
    inner_settings(blip).eos_token_id = end

    call = measure(blip, clock, **inputs).calls[0]

    assert (call.n_output_tokens, call.n_decode_steps) == (8, 7)
    assert call.n_generated_tokens == rows[0].index(end) + 1 + 8


def test_guidance_is_labelled_for_its_second_forward_a_token(
    llava: Specimen, clock: FakeClock
) -> None:
    case = measure(llava, clock, guidance_scale=2.0)

    assert case.labels == ("guided",)
    assert case.calls[0].prefill_ms == BLOCK_MS
    assert (case.calls[0].n_output_tokens, case.calls[0].n_decode_steps) == (8, 7 + 8)


def test_a_looked_up_prompt_is_not_split_although_chunks_were_asked_for(
    llava: Specimen, clock: FakeClock
) -> None:
    case = measure(llava, clock, prefill_chunk_size=10, prompt_lookup_num_tokens=2)

    assert case.labels == ("assisted",)
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (VISION_MS, BLOCK_MS)


@pytest.mark.skipif(not CHUNKS_BY_CALL, reason="transformers fails: it chunks one word to nothing")
@pytest.mark.parametrize("name", ["florence2", "vision-encoder-decoder"])
def test_an_encoder_decoder_ignores_chunks_and_is_measured(name: str, clock: FakeClock) -> None:
    specimen = build(name)

    case = measure(specimen, clock, prefill_chunk_size=5)

    assert case.labels == ()
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (VISION_MS, BLOCK_MS)


@pytest.mark.parametrize("name", ["florence2", "vision-encoder-decoder"])
def test_a_decoders_own_prompt_is_no_output(name: str, clock: FakeClock) -> None:
    specimen = build(name)

    case = measure(specimen, clock, decoder_input_ids=torch.tensor([[1, 7, 9]]))

    assert (case.calls[0].n_output_tokens, case.calls[0].n_decode_steps) == (8, 7)
    assert case.calls[0].prefill_ms == BLOCK_MS


@pytest.mark.parametrize("name", ["florence2", "udop"])
def test_beams_of_an_encoder_decoder_see_copies_of_vision_too(name: str, clock: FakeClock) -> None:
    specimen = build(name)

    call = measure(specimen, clock, num_beams=3).calls[0]

    counts = (call.n_vision_tokens, call.n_text_tokens)
    assert counts == (specimen.n_vision_tokens, specimen.n_text_tokens)


def test_words_that_generate_leaves_out_are_no_prompt_though_said_again(clock: FakeClock) -> None:
    """BLIP's leaves out the last one; here its answer begins with that very word."""
    blip = build("blip")
    first = blip.generate(**blip.inputs)[0, blip.n_prompt_columns]
    blip.inputs["input_ids"][0, -1] = first

    call = measure(blip, clock).calls[0]

    assert (call.n_output_tokens, call.n_text_tokens) == (N_NEW_TOKENS, blip.n_text_tokens)


def test_beams_see_copies_of_vision_and_no_more_of_it(llava: Specimen, clock: FakeClock) -> None:
    call = measure(llava, clock, num_beams=2).calls[0]

    assert call.n_vision_tokens == llava.n_vision_tokens
    assert call.n_text_tokens == llava.n_text_tokens


@pytest.mark.parametrize(
    ("kind", "block"),
    [("a second llava", "model.language_model.layers.0"), ("a language model", "model.layers.0")],
)
def test_an_assistants_first_draft_is_a_span_of_its_own(
    llava: Specimen, clock: FakeClock, kind: str, block: str
) -> None:
    assistants = {
        "a second llava": build("llava", seed=1).model,
        "a language model": a_language_model(llava),
    }
    assistant = assistants[kind]

    with delayed(assistant.get_submodule(block), lambda: clock.advance_ms(DRAFT_MS)):
        case = measure(llava, clock, assistant_model=assistant)

    call = case.calls[0]
    assert case.labels == ("assisted",)
    assert call.phase_time("assistant", WALL) == DRAFT_MS
    assert (call.vision_ms, call.prefill_ms, call.other_ms) == (VISION_MS, BLOCK_MS, 0)


def a_language_model(specimen: Specimen) -> torch.nn.Module:
    """Return a small model with the vocabulary of a specimen."""
    embeddings = specimen.model.get_input_embeddings()  # type: ignore[operator]  # a method
    return small_language_model(embeddings.num_embeddings)
