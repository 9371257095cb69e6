"""What every specimen generates, and from what, so that measurements of it can be believed."""

import logging
from typing import cast

import pytest
import torch
from transformers import Cache, EncoderDecoderCache
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.utils.logging import warning_once

from pytest_vlmlatency.calls.generation import find_cache
from tests.zoo import (
    ENCODES_EACH_STEP,
    N_NEW_TOKENS,
    ZOO,
    Inputs,
    Specimen,
    available,
    build,
)
from tests.zoo.pixels import N_PATCHES
from tests.zoo.shrink import FIRST_WORD, N_WORDS

LOOKS_ANEW = ("idefics", "blip")
"""Their decoders attend to what vision gave in every step, and remember the text alone."""
NOT_IN_ONE_ROW = (*LOOKS_ANEW, *ENCODES_EACH_STEP, "mllama", "udop")
WARN = ("cohere_compass", "janus", "nemotron_h_omni", "paddleocr_vl")
"""They warn of settings that are their own."""
KERNELS = "transformers.integrations.hub_kernels"
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


def is_encoder_decoder(specimen: Specimen) -> bool:
    return bool(specimen.config.is_encoder_decoder)


def new_tokens(specimen: Specimen, inputs: Inputs) -> list[int]:
    """Return the tokens of the only row that come after the prompt, or after the start token."""
    row = [int(token) for token in specimen.generate(**inputs)[0]]
    n_columns = specimen.n_prompt_columns
    if not is_encoder_decoder(specimen):
        n_columns += inputs["input_ids"].shape[1] - specimen.inputs["input_ids"].shape[1]
    return row[n_columns:]


def prefill(specimen: Specimen, inputs: Inputs) -> GenerateDecoderOnlyOutput:
    """Return what is known after the first token: the prompt's logits, and the cache."""
    options = {"max_new_tokens": 1, "output_logits": True, "return_dict_in_generate": True}
    return cast("GenerateDecoderOnlyOutput", specimen.generate(**inputs, **options))


def prompt_logits(specimen: Specimen, inputs: Inputs) -> torch.Tensor:
    logits = prefill(specimen, inputs).logits
    assert logits is not None, "output_logits was asked for"
    return logits[0]


def cache_of(specimen: Specimen) -> Cache:
    output = vars(prefill(specimen, specimen.inputs))
    cache = find_cache(output.values())
    assert cache is not None, "the cache is on by default"
    return cast("Cache", cache)


def test_the_zoo_has_what_the_project_promises() -> None:
    assert set(REQUIRED_BY_THE_PROJECT) <= set(ZOO)


def test_eight_words_are_generated_and_not_all_the_same(specimen: Specimen) -> None:
    tokens = new_tokens(specimen, specimen.inputs)

    assert len(tokens) == N_NEW_TOKENS == 8
    assert all(FIRST_WORD <= token < N_WORDS for token in tokens), tokens
    assert len(set(tokens)) > 2


@pytest.mark.parametrize(
    "specimen", [name for name in available() if ZOO[name].takes_text_alone], indirect=True
)
def test_eight_tokens_are_generated_without_an_image(specimen: Specimen) -> None:
    assert specimen.text_inputs is not None

    assert len(new_tokens(specimen, specimen.text_inputs)) == N_NEW_TOKENS


@pytest.mark.parametrize("name", [name for name in available() if name not in WARN])
def test_nothing_is_logged_or_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing but that kernels of other packages aren't installed."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    warning_once.cache_clear()

    specimen = build(name)
    specimen.generate(**specimen.inputs, max_new_tokens=2)
    logger.removeHandler(caplog.handler)

    said = [record.message for record in caplog.records if record.name != KERNELS]
    assert said == []


def test_other_pixels_change_the_prompts_logits(specimen: Specimen) -> None:
    pixels = ZOO[specimen.name].make_pixels(specimen.config, torch.Generator().manual_seed(1))

    others = prompt_logits(specimen, specimen.inputs | pixels)

    difference = others - prompt_logits(specimen, specimen.inputs)

    # Logits spread by about 1: far above rounding, and enough for another token to win.
    assert difference.abs().max() > 0.05


def n_remembered(cache: Cache) -> int:
    """Return how many tokens a decoder remembers, or attends to in what its encoder gave."""
    if isinstance(cache, EncoderDecoderCache):
        return cache.cross_attention_cache.get_seq_length()
    return cache.get_seq_length()


@pytest.mark.parametrize(
    "specimen", [name for name in available() if name not in NOT_IN_ONE_ROW], indirect=True
)
def test_the_decoder_remembers_text_and_vision_tokens(specimen: Specimen) -> None:
    n_tokens = n_remembered(cache_of(specimen))

    assert n_tokens == specimen.n_text_tokens + specimen.n_vision_tokens


@pytest.mark.parametrize("name", [name for name in LOOKS_ANEW if name in available()])
def test_a_decoder_that_looks_at_vision_anew_remembers_text_only(name: str) -> None:
    specimen = build(name)

    assert cache_of(specimen).get_seq_length() == specimen.n_text_tokens


def test_mllama_remembers_text_and_vision_in_layers_of_their_own() -> None:
    specimen = build("mllama")

    cache = cache_of(specimen)

    lengths = [cache.get_seq_length(layer) for layer in range(specimen.n_blocks)]
    assert lengths == [specimen.n_text_tokens, specimen.n_vision_tokens] * 2


def test_udop_remembers_a_place_for_every_patch_and_masks_those_behind_words() -> None:
    specimen = build("udop")
    masks: list[torch.Tensor] = []

    encoder = specimen.model.get_submodule("encoder")
    encoder.register_forward_hook(
        lambda _module, _args, output: masks.append(output.attention_mask)
    )
    n_places = n_remembered(cache_of(specimen))

    assert n_places == specimen.n_text_tokens + N_PATCHES
    assert int(masks[0].sum()) == specimen.n_text_tokens + specimen.n_vision_tokens


def test_the_same_seed_builds_the_same_specimen_whatever_was_drawn_before(
    specimen: Specimen,
) -> None:
    """And generating has left its weights as they were built."""
    torch.manual_seed(1)

    again = build(specimen.name)

    assert torch.equal(again.pixels, specimen.pixels)
    states = again.model.state_dict(), specimen.model.state_dict()
    pairs = zip(*(state.values() for state in states), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_another_seed_builds_another_specimen() -> None:
    first, second = build("llava", seed=3), build("llava", seed=4)

    assert new_tokens(first, first.inputs) != new_tokens(second, second.inputs)


def test_building_leaves_torchs_random_state_alone() -> None:
    before = torch.get_rng_state()

    build("qwen2_vl")

    assert torch.equal(torch.get_rng_state(), before)
