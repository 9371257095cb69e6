"""What every specimen generates, and from what, so that measurements of it can be believed."""

import logging
from typing import cast

import pytest
import torch
from transformers import Cache, EncoderDecoderCache, PreTrainedModel
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.utils.logging import warning_once

from tests.zoo import (
    ENCODES_EACH_STEP,
    N_NEW_TOKENS,
    ZOO,
    Inputs,
    Specimen,
    available,
    build,
)
from tests.zoo.shrink import FIRST_WORD, N_WORDS

ENCODER_DECODERS = ("florence2", "vision-encoder-decoder")
OTHER_CACHES = (*ENCODER_DECODERS, *ENCODES_EACH_STEP, "mllama", "idefics")
"""Architectures whose decoder doesn't remember vision and text in one row."""
REQUIRED_BY_THE_PROJECT = (
    "llava",
    "qwen2_vl",
    "qwen3_vl",
    "smolvlm",
    "idefics3",
    "mllama",
    "paligemma",
    "gemma3",
    "internvl",
    "blip-2",
    "molmo2",
    "florence2",
    "git",
)


def new_tokens(specimen: Specimen, inputs: Inputs) -> list[int]:
    """Return the tokens of the only row that come after the prompt, or after the start token."""
    row = [int(token) for token in specimen.generate(**inputs)[0]]
    is_encoder_decoder = cast("PreTrainedModel", specimen.model).config.is_encoder_decoder
    return row[1 if is_encoder_decoder else inputs["input_ids"].shape[1] :]


def prefill(specimen: Specimen, inputs: Inputs) -> GenerateDecoderOnlyOutput:
    """Return what is known after the first token: the prompt's logits, and the cache."""
    options = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
    return cast("GenerateDecoderOnlyOutput", specimen.generate(**inputs, **options))


def prompt_logits(specimen: Specimen, inputs: Inputs) -> torch.Tensor:
    logits = prefill(specimen, inputs).logits
    assert logits is not None, "output_logits was asked for"
    return logits[0]


def cache_of(specimen: Specimen) -> Cache:
    cache = prefill(specimen, specimen.inputs).past_key_values
    assert cache is not None, "the cache is on by default"
    return cache


def test_the_zoo_has_what_the_project_promises() -> None:
    assert set(REQUIRED_BY_THE_PROJECT) <= set(ZOO)


def test_eight_tokens_are_generated(specimen: Specimen) -> None:
    assert len(new_tokens(specimen, specimen.inputs)) == N_NEW_TOKENS == 8


def test_every_generated_token_is_a_word(specimen: Specimen) -> None:
    tokens = new_tokens(specimen, specimen.inputs)

    assert all(FIRST_WORD <= token < N_WORDS for token in tokens), tokens


def test_the_generated_tokens_are_not_all_the_same(specimen: Specimen) -> None:
    assert len(set(new_tokens(specimen, specimen.inputs))) > 2


def test_a_second_generate_says_the_same(specimen: Specimen) -> None:
    first = new_tokens(specimen, specimen.inputs)

    assert new_tokens(specimen, specimen.inputs) == first


@pytest.mark.parametrize("name", [name for name in available() if ZOO[name].takes_text_alone])
def test_eight_tokens_are_generated_without_an_image(name: str) -> None:
    specimen = build(name)
    assert specimen.text_inputs is not None

    assert len(new_tokens(specimen, specimen.text_inputs)) == N_NEW_TOKENS


@pytest.mark.parametrize("name", available())
def test_nothing_is_logged_or_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    warning_once.cache_clear()

    specimen = build(name)
    specimen.generate(**specimen.inputs)
    logger.removeHandler(caplog.handler)

    assert caplog.messages == []


def test_other_pixels_change_the_prompts_logits(specimen: Specimen) -> None:
    negative = specimen.inputs | {"pixel_values": -specimen.inputs["pixel_values"]}

    difference = prompt_logits(specimen, negative) - prompt_logits(specimen, specimen.inputs)

    # Logits spread by about 1: far above rounding, and enough for another token to win.
    assert difference.abs().max() > 0.05


@pytest.mark.parametrize("name", [name for name in available() if name not in OTHER_CACHES])
def test_the_decoder_remembers_text_and_vision_tokens(name: str) -> None:
    specimen = build(name)

    cache = cache_of(specimen)

    assert cache.get_seq_length() == specimen.n_text_tokens + specimen.n_vision_tokens


def test_mllama_remembers_text_and_vision_in_layers_of_their_own() -> None:
    specimen = build("mllama")

    cache = cache_of(specimen)

    lengths = [cache.get_seq_length(layer) for layer in range(specimen.n_blocks)]
    assert lengths == [specimen.n_text_tokens, specimen.n_vision_tokens] * 2


def test_idefics_remembers_text_only_and_attends_to_vision_anew() -> None:
    specimen = build("idefics")

    assert cache_of(specimen).get_seq_length() == specimen.n_text_tokens


@pytest.mark.parametrize("name", [name for name in ENCODER_DECODERS if name in available()])
def test_an_encoder_decoder_remembers_its_encoders_output(name: str) -> None:
    specimen = build(name)

    cache = cache_of(specimen)

    assert isinstance(cache, EncoderDecoderCache)
    n_encoded = cache.cross_attention_cache.get_seq_length()
    assert n_encoded == specimen.n_text_tokens + specimen.n_vision_tokens


@pytest.mark.parametrize("name", available())
def test_the_same_seed_builds_the_same_specimen_whatever_was_drawn_before(name: str) -> None:
    torch.manual_seed(1)
    first = build(name, seed=3)
    torch.manual_seed(2)
    second = build(name, seed=3)

    assert torch.equal(first.inputs["pixel_values"], second.inputs["pixel_values"])
    states = first.model.state_dict(), second.model.state_dict()
    pairs = zip(*(state.values() for state in states), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_another_seed_builds_another_specimen() -> None:
    first, second = build("llava", seed=3), build("llava", seed=4)

    assert new_tokens(first, first.inputs) != new_tokens(second, second.inputs)


def test_building_leaves_torchs_random_state_alone() -> None:
    before = torch.get_rng_state()

    build("qwen2_vl")

    assert torch.equal(torch.get_rng_state(), before)
