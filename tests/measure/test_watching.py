"""Each case watches a call of its own: once for each prompt, and as the user makes it."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import cast

import pytest
import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.models.processors import build_tokenizer
from pytest_vlmlatency.records import Call, Case
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import KeepsPixels, Sharp, measure_custom
from tests.measure.ticking import TOKEN_MS, Ticking
from tests.zoo import N_NEW_TOKENS, Specimen, block_modules, build, vision_module
from tests.zoo.earlier import CACHE
from tests.zoo.once import encoding_once
from tests.zoo.shrink import EOS, PAD

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
        said = llava.generate(**llava.inputs, **{CACHE: cache})
        prompt = torch.cat([said, torch.tensor([[5, 6, 7]])], dim=1)
        mask = torch.ones_like(prompt)
        return (), {"input_ids": prompt, "attention_mask": mask, CACHE: cache}

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(BLOCK_MS)):
        case = measure_generate(llava.generate, setup=second_turn, rounds=1, clock=clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (0, BLOCK_MS, 7 * BLOCK_MS)


class Grammar(LogitsProcessor):
    """Allows what a trie has after the tokens so far, and asserts that it has anything."""

    def __init__(self, trie: Mapping[tuple[int, ...], list[int]], n_prompt: int) -> None:
        self.trie, self.n_prompt = trie, n_prompt

    def allowed(self, row: torch.Tensor) -> list[int]:
        said = tuple(int(token) for token in row[self.n_prompt :])
        assert said in self.trie
        return self.trie[said]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        mask = torch.full_like(scores, -torch.inf)
        mask[:, self.allowed(input_ids[0])] = 0
        return scores + mask


def as_processor(grammar: Grammar) -> Mapping[str, object]:
    return {"logits_processor": [grammar]}


def as_function(grammar: Grammar) -> Mapping[str, object]:
    return {"prefix_allowed_tokens_fn": lambda _batch, row: grammar.allowed(row)}


def as_function_when_sampling(grammar: Grammar) -> Mapping[str, object]:
    return {**as_function(grammar), "do_sample": True}


def as_function_of_beams(grammar: Grammar) -> Mapping[str, object]:
    return {**as_function(grammar), "num_beams": 2}


Settings = Callable[[Grammar], Mapping[str, object]]


def answer(specimen: Specimen, settings: Settings, trie: dict[tuple[int, ...], list[int]]) -> Call:
    n_prompt = specimen.inputs["input_ids"].shape[1]
    ends = {"max_new_tokens": 20, "eos_token_id": EOS, "pad_token_id": PAD}
    kwargs = {**specimen.inputs, **ends, **settings(Grammar(trie, n_prompt))}
    return measure_generate(specimen.generate, kwargs=kwargs, rounds=1).calls[0]


@pytest.mark.parametrize(
    "settings", [as_processor, as_function, as_function_when_sampling, as_function_of_beams]
)
def test_an_answer_of_two_tokens_that_a_grammar_allows_is_measured(
    llava: Specimen, settings: Settings
) -> None:
    trie = {(): [50, 60], (50,): [EOS], (60,): [EOS], (50, EOS): [PAD], (60, EOS): [PAD]}

    assert answer(llava, settings, trie).n_output_tokens == 2


@pytest.mark.parametrize("settings", [as_processor, as_function])
def test_a_grammar_that_allows_the_end_alone_is_measured(
    llava: Specimen, settings: Settings
) -> None:
    call = answer(llava, settings, {(): [EOS]})

    assert (call.n_output_tokens, call.n_decode_steps) == (1, 0)
    assert call.vision_ms > 0


def test_a_choice_of_one_token_is_measured(llava: Specimen) -> None:
    """As classifiers are built: of two words the likelier one, and no more."""
    n_prompt = llava.inputs["input_ids"].shape[1]
    kwargs = {**llava.inputs, "max_new_tokens": 1, **as_function(Grammar({(): [50, 60]}, n_prompt))}

    case = measure_generate(llava.generate, kwargs=kwargs, rounds=1)

    assert case.calls[0].n_output_tokens == 1


class Listener(BaseStreamer):
    """Counts how often each call gave it something, the prompt included."""

    def __init__(self) -> None:
        self.n_calls: list[int] = []
        self.n_given = 0

    def put(self, value: torch.Tensor) -> None:
        self.n_given += 1

    def end(self) -> None:
        self.n_calls.append(self.n_given)
        self.n_given = 0


def test_a_streamer_gets_the_same_from_every_call(llava: Specimen) -> None:
    listener = Listener()

    measure_generate(llava.generate, kwargs={**llava.inputs, "streamer": listener}, rounds=1)

    assert set(listener.n_calls) == {1 + N_NEW_TOKENS}


def test_stop_strings_in_a_configuration_end_the_watched_call_too(llava: Specimen) -> None:
    tokenizer = build_tokenizer()
    ids = llava.generate(**llava.inputs)[0, llava.n_prompt_columns :].tolist()
    first = tokenizer.convert_ids_to_tokens(ids[0])
    config = GenerationConfig(max_new_tokens=8, stop_strings=[first], eos_token_id=EOS)  # type: ignore[no-untyped-call]  # transformers' own
    kwargs = {**llava.inputs, "generation_config": config, "tokenizer": tokenizer}

    case = measure_generate(llava.generate, kwargs=kwargs, rounds=1)

    assert (case.calls[0].n_output_tokens, case.calls[0].n_decode_steps) == (1, 0)
    assert config.stop_strings == [first]


@pytest.mark.parametrize(
    ("settings", "n_watched"),
    [({}, 3), ({"max_new_tokens": 2}, 2), ({"logits_processor": []}, 3), ({"do_sample": True}, 3)],
)
def test_a_call_that_nothing_can_tell_apart_is_watched_for_its_first_tokens(
    llava: Specimen, settings: Mapping[str, object], n_watched: int
) -> None:
    n_forwards: list[int] = []

    def step() -> None:
        n_forwards[-1] += 1

    with (
        delayed(vision_module(llava), lambda: n_forwards.append(0)),
        delayed(block_modules(llava)[0], step),
    ):
        measure_generate(llava.generate, kwargs={**llava.inputs, **settings}, rounds=1)

    assert n_forwards[1] == n_watched


@pytest.mark.parametrize(
    "settings", [{"min_length": 30}, {"max_length": 40}, {"min_new_tokens": 8}]
)
def test_lengths_of_any_kind_are_the_watched_calls_too(
    llava: Specimen, settings: Mapping[str, object], recwarn: pytest.WarningsRecorder
) -> None:
    measure_generate(llava.generate, kwargs={**llava.inputs, **settings}, rounds=1)

    assert not [one for one in recwarn if "Unfeasible" in str(one.message)]
