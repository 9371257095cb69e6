"""Each case watches a call of its own: short, for itself, and once for each prompt."""

from collections.abc import Mapping
from operator import attrgetter
from typing import cast

import pytest
import torch
from transformers import DynamicCache

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import KeepsPixels, Sharp, measure_custom
from tests.measure.ticking import TOKEN_MS, Ticking
from tests.zoo import N_NEW_TOKENS, Specimen, block_modules, build, vision_module
from tests.zoo.once import encoding_once

FAMILIES = encoding_once("llava", "qwen2_vl", "mllama", "florence2", "git")
EMBEDDING_MS, BLOCK_MS = 1, 3


def measure(specimen: Specimen, clock: FakeClock, **settings: object) -> Case:
    """Measure with 60 ms in the tower, 1 ms in the embeddings, 3 ms in a block, 2 ms a token."""
    embeddings = cast("torch.nn.Module", specimen.model.get_input_embeddings())  # type: ignore[operator]  # a method
    kwargs = {**specimen.inputs, "logits_processor": [Ticking(clock)], **settings}
    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(60)),
        delayed(embeddings, lambda: clock.advance_ms(EMBEDDING_MS)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        return measure_generate(specimen.generate, kwargs=kwargs, rounds=1, clock=clock)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_token_and_then_eight_have_the_same_vision_and_prefill(
    name: str, clock: FakeClock
) -> None:
    specimen = build(name)

    one = measure(specimen, clock, max_new_tokens=1).calls[0]
    eight = measure(specimen, clock).calls[0]

    assert (one.vision_ms, one.decode_ms, one.n_output_tokens) == (60, TOKEN_MS, 1)
    assert (eight.vision_ms, eight.n_output_tokens) == (60, N_NEW_TOKENS)
    assert one.prefill_ms == eight.prefill_ms
    assert one.vision_ms + one.prefill_ms + one.text_encoder_ms == 60 + EMBEDDING_MS + BLOCK_MS


@pytest.mark.parametrize("name", FAMILIES)
def test_an_end_token_that_comes_first_leaves_vision_and_prefill_as_they_are(
    name: str, clock: FakeClock
) -> None:
    specimen = build(name)
    first = int(specimen.generate(**specimen.inputs)[0, -N_NEW_TOKENS])

    call = measure(specimen, clock, eos_token_id=first).calls[0]

    assert (call.n_output_tokens, call.n_decode_steps) == (1, 0)
    assert (call.vision_ms, call.decode_ms) == (60, TOKEN_MS)
    assert call.prefill_ms + call.text_encoder_ms == EMBEDDING_MS + BLOCK_MS


def test_a_case_after_one_that_was_refused_is_right(mllama: Specimen, clock: FakeClock) -> None:
    with pytest.raises(InvalidMeasurement, match=r"model.vision_model.* again in decode"):
        measure(mllama, clock, use_cache=False)

    call = measure(mllama, clock).calls[0]

    assert (call.vision_ms, call.prefill_ms) == (60, EMBEDDING_MS + BLOCK_MS)


def test_an_attribute_that_adds_a_tower_between_two_cases_is_seen(clock: FakeClock) -> None:
    model = Sharp()
    delays_ms = {"vision": 60, "vision_2": 100, "blocks.0": 3}
    before = measure_custom(model, clock, delays_ms=delays_ms).calls[0]

    model.is_sharp = True
    after = measure_custom(model, clock, delays_ms=delays_ms).calls[0]

    assert (before.vision_ms, before.prefill_ms) == (60, 3)
    assert (after.vision_ms, after.prefill_ms) == (60 + 100, 3)


def test_a_forward_that_was_replaced_between_two_cases_is_seen(clock: FakeClock) -> None:
    model = KeepsPixels(lambda model, pixels: model.vision(pixels))
    with pytest.raises(InvalidMeasurement, match=r"^vision worked on the pixels again in decode"):
        measure_custom(model, clock)

    vars(model)["forward"] = super(KeepsPixels, model).forward

    assert measure_custom(model, clock).calls[0].vision_ms == 71


@pytest.mark.parametrize("door", ["get_image_features", "model.vision_tower"])
def test_pixels_encoded_through_another_door_first_are_refused(llava: Specimen, door: str) -> None:
    generate, encode = llava.generate, attrgetter(door)(llava.model)

    def twice(**inputs: torch.Tensor) -> object:
        encode(inputs["pixel_values"])
        return generate(**inputs)

    llava.model.generate = twice  # type: ignore[assignment]  # a generate of the model's own
    with pytest.raises(InvalidMeasurement, match=r"the same pixels more than once for one prompt"):
        measure_generate(twice, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_a_second_turn_on_a_filled_cache_needs_no_pixels(llava: Specimen, clock: FakeClock) -> None:
    """The prompt repeats the first turn's placeholders, whose image is in the cache."""

    def second_turn() -> tuple[tuple[()], Mapping[str, object]]:
        cache = DynamicCache()
        said = llava.generate(**llava.inputs, past_key_values=cache)
        prompt = torch.cat([said, torch.tensor([[5, 6, 7]])], dim=1)
        mask = torch.ones_like(prompt)
        return (), {"input_ids": prompt, "attention_mask": mask, "past_key_values": cache}

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(BLOCK_MS)):
        case = measure_generate(llava.generate, setup=second_turn, rounds=1, clock=clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (0, BLOCK_MS, 7 * BLOCK_MS)
