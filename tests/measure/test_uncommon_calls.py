"""Calls that are right though uncommon: copies for beams, an image twice, heads at the root."""

import functools

import pytest
import torch
from torch import nn

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.records import WALL
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import (
    IMAGE,
    PROMPT,
    HeadAtRoot,
    Images,
    OneByOne,
    measure_custom,
)
from tests.measure.test_decoding import a_language_model
from tests.zoo import Specimen, block_modules, build, vision_module
from tests.zoo.once import encoding_once


@pytest.mark.parametrize("name", encoding_once("mllama", "git", "idefics"))
@pytest.mark.parametrize(
    "settings", [{"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}]
)
def test_copies_for_beams_are_vision_too(
    name: str, settings: dict[str, object], clock: FakeClock
) -> None:
    specimen = build(name)
    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(60)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(3)),
    ):
        case = measure_generate(
            specimen.generate, kwargs={**specimen.inputs, **settings}, rounds=1, clock=clock
        )

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms) == (60, 3)
    assert call.n_vision_tokens == specimen.n_vision_tokens


@pytest.mark.parametrize(
    "images",
    [
        torch.cat([IMAGE, IMAGE]),
        [IMAGE[0], IMAGE[0]],
        torch.cat([IMAGE.round(), IMAGE.round().flip(0, 1, 2, 3)]),
    ],
    ids=["a batch of equals", "a list of one twice", "two of the same sum"],
)
def test_the_same_image_twice_in_a_prompt_is_two_images(clock: FakeClock, images: object) -> None:
    call = measure_custom(OneByOne(), clock, {"input_ids": PROMPT, "images": images}).calls[0]

    assert (call.vision_ms, call.n_vision_calls) == (2 * 60 + 11, 2)


class EmbedsAtRoot(HeadAtRoot):
    """Calls embedding, text and head from generate()."""

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        states = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        tokens = [input_ids]
        for _ in range(max_new_tokens):
            tokens.append(self.lm_head(self.text(states))[:, -1].argmax(-1, keepdim=True))
            states = self.embed(tokens[-1])
        return torch.cat(tokens, dim=1)


class EmbedsAnswersAtRoot(HeadAtRoot):
    """Embeds the prompt by a function, and each new token by a module."""

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        states = nn.functional.embedding(input_ids, self.embed.weight)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        tokens = [input_ids]
        for _ in range(max_new_tokens):
            tokens.append(self.lm_head(self.text(states))[:, -1].argmax(-1, keepdim=True))
            states = self.embed(tokens[-1])
        return torch.cat(tokens, dim=1)


def test_an_embedding_at_the_root_is_no_end_of_the_prompt(clock: FakeClock) -> None:
    model = EmbedsAtRoot()
    n_heads = 0

    def head() -> None:
        nonlocal n_heads
        clock.advance_ms(1 if n_heads % 8 else 50)
        n_heads += 1

    delays_ms = {"vision": 60, "proj": 11, "text.blocks.0": 3}
    with delayed(model.lm_head, head):
        call = measure_custom(model, clock, delays_ms=delays_ms).calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 53, 28)


def test_the_next_tokens_embedding_is_decode(clock: FakeClock) -> None:
    delays_ms = {"vision": 60, "text.blocks.0": 3, "embed": 2}

    call = measure_custom(EmbedsAnswersAtRoot(), clock, delays_ms=delays_ms).calls[0]

    assert (call.prefill_ms, call.decode_ms) == (3, 7 * 3 + 8 * 2)


class ManyCrops(HeadAtRoot):
    def encode(self, images: Images) -> torch.Tensor:
        features = [self.vision(image[None]) for image in images]
        projected: torch.Tensor = self.proj(torch.cat(features, dim=1))
        return projected


def test_more_crops_than_tokens_are_no_steps(clock: FakeClock) -> None:
    images = torch.cat([IMAGE * index for index in range(1, 13)])
    delays_ms = {"vision": 60, "proj": 11, "text.blocks.0": 3}

    call = measure_custom(
        ManyCrops(), clock, {"input_ids": PROMPT, "images": images}, delays_ms=delays_ms
    ).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (12 * 60 + 11, 3, 21)


def test_a_generate_of_the_users_own_gets_no_arguments_of_ours(llava: Specimen) -> None:
    inherited = llava.generate

    def generate(input_ids: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
        return inherited(input_ids=input_ids, pixel_values=pixel_values, max_new_tokens=4)

    llava.model.generate = generate  # type: ignore[assignment]  # a generate of the user's own
    inputs = {name: llava.inputs[name] for name in ("input_ids", "pixel_values")}

    case = measure_generate(generate, model=llava.model, kwargs=inputs, rounds=1)

    assert case.calls[0].n_output_tokens == 4


def test_an_assistants_own_preparation_is_its_span_too(llava: Specimen, clock: FakeClock) -> None:
    assistant = a_language_model(llava)
    prepare = assistant.prepare_inputs_for_generation
    assert callable(prepare)

    @functools.wraps(prepare)
    def slow(*args: object, **kwargs: object) -> object:
        clock.advance_ms(6)
        return prepare(*args, **kwargs)

    vars(assistant)["prepare_inputs_for_generation"] = slow
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)):
        case = measure_generate(
            llava.generate,
            kwargs={**llava.inputs, "assistant_model": assistant},
            rounds=1,
            clock=clock,
        )

    assert case.calls[0].other_ms == 0
    assert case.calls[0].phase_time("assistant", WALL) >= 6


def test_a_stopping_criterion_that_ends_after_one_token_is_measured(llava: Specimen) -> None:
    def at_once(input_ids: torch.Tensor, _scores: object) -> torch.Tensor:
        return torch.ones(len(input_ids), dtype=torch.bool)

    case = measure_generate(
        llava.generate, kwargs={**llava.inputs, "stopping_criteria": [at_once]}, rounds=1
    )

    assert case.calls[0].n_output_tokens == 1
