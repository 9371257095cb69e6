"""Token counts and settings by what is at hand: positions, features, and the loop that ran."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from transformers import DynamicCache, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.calls.generation import count_held_columns
from pytest_vlmlatency.calls.image_tokens import find_features
from pytest_vlmlatency.records import Call, Case
from tests.builders import FakeClock, delayed
from tests.measure.assistants import small_language_model
from tests.measure.custom_models import IMAGE, IMAGES, Tower
from tests.zoo import Inputs, Specimen, available, block_modules, build

HIDDEN_ID, N_PATCHES, WIDTH = 299, 16, 32


class Outer(nn.Module):
    """Merges vision into embeddings itself; its placeholder is in no configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.visual, self.proj = Tower(), nn.Linear(16, WIDTH)
        self.lm: Any = small_language_model(300)
        self.image_context_id = 0

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(self.visual(images)).reshape(-1, WIDTH)  # type: ignore[no-any-return]

    def merged(self, ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        embeds = self.lm.get_input_embeddings()(ids).clone()
        embeds[ids == self.image_context_id] = self.features(images)
        return embeds  # type: ignore[no-any-return]

    @torch.no_grad()
    def generate(self, input_ids: torch.Tensor, pixel_values: torch.Tensor, **settings: Any) -> Any:
        mask = settings.pop("attention_mask", torch.ones_like(input_ids))
        embeds = self.merged(input_ids, pixel_values)
        return self.lm.generate(inputs_embeds=embeds, attention_mask=mask, **settings)

    def chat(self, ids: torch.Tensor, images: torch.Tensor, **settings: Any) -> Any:
        self.image_context_id = HIDDEN_ID
        return self.generate(ids, images, max_new_tokens=6, **settings).tolist()


class Pools(Outer):
    """Pools the features by no module: vision gives more vectors than the prompt has places."""

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return super().features(images).reshape(-1, 4, WIDTH).mean(dim=1)


class InPlace(Outer):
    """Puts an image in the place of one id that no embedding has."""

    def merged(self, ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        embed, at = self.lm.get_input_embeddings(), int((ids[0] < 0).nonzero())
        parts = embed(ids[:, :at]), self.features(images)[None], embed(ids[:, at + 1 :])
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def generate(self, input_ids: torch.Tensor, pixel_values: torch.Tensor, **settings: Any) -> Any:
        return self.lm.generate(inputs_embeds=self.merged(input_ids, pixel_values), **settings)


class Searches(Outer):
    """Has settings of its own for the search, and a prompt of its own."""

    @torch.no_grad()
    def generate(  # type: ignore[override]  # the point
        self, pixel_values: torch.Tensor, num_beams: int = 5, n_captions: int = 1
    ) -> Any:
        words = self.lm.get_input_embeddings()(torch.tensor([[1, 7, 8, 9, 11, 12]]))
        features = self.features(pixel_values).reshape(len(pixel_values), -1, WIDTH)
        embeds = torch.cat([features, words.expand(len(pixel_values), -1, -1)], dim=1)
        settings = {"num_beams": num_beams, "num_return_sequences": n_captions}
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        return self.lm.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=6, **settings
        )


def measure(model: Any, function: Any, *args: object, **kwargs: object) -> Case:
    """Measure with 3 ms in the block of the language model."""
    clock = FakeClock()
    with delayed(model.lm.model.layers[0], lambda: clock.advance_ms(3)):
        return measure_generate(function, args=args, kwargs=kwargs, rounds=1, clock=clock)


def counts(call: Call) -> tuple[int | None, int | None]:
    return call.n_vision_tokens, call.n_text_tokens


def prompt_of(n_places: int) -> torch.Tensor:
    places = torch.full((n_places,), HIDDEN_ID)
    return torch.cat([torch.arange(5, 9), places, torch.arange(9, 14)])[None]


def test_a_placeholder_that_only_the_model_object_knows_is_no_text() -> None:
    outer = Outer()

    case = measure(outer, outer.chat, prompt_of(N_PATCHES), IMAGE)

    assert counts(case.calls[0]) == (N_PATCHES, 9)


def test_placeholders_of_a_padded_batch_are_no_text() -> None:
    outer = Outer()
    padding = torch.full((1, 3), 0)
    rows = [torch.cat([padding, prompt_of(N_PATCHES)], dim=1), prompt_of(N_PATCHES)]
    rows[1] = torch.cat([rows[1], torch.tensor([[14, 15, 16]])], dim=1)
    ids = torch.cat(rows)

    case = measure(outer, outer.chat, ids, IMAGES[:2], attention_mask=(ids != 0).long())

    assert counts(case.calls[0]) == (2 * N_PATCHES, 9 + 12)


def test_counts_that_nothing_shows_are_unknown_and_a_note_says_so() -> None:
    pools = Pools()

    case = measure(pools, pools.chat, prompt_of(N_PATCHES // 4), IMAGE)

    assert counts(case.calls[0]) == (None, None)
    assert any("unknown" in note for note in case.notes)


def test_an_id_that_no_embedding_has_is_a_place_and_no_text() -> None:
    model = InPlace()
    ids = torch.tensor([[5, 6, -200, 7, 8, 9]])

    case = measure(model, model.chat, ids, IMAGE)

    assert counts(case.calls[0]) == (N_PATCHES, 5)


@pytest.mark.parametrize(
    ("settings", "label"),
    [({}, "beam"), ({"num_beams": 5, "n_captions": 3}, "3-sequences")],
    ids=["beams", "sequences"],
)
def test_settings_are_those_of_the_generate_that_runs_the_loop(
    settings: dict[str, int], label: str
) -> None:
    model = Searches()

    case = measure(model, model.generate, pixel_values=IMAGES[:2], **settings)

    assert label in case.labels
    assert counts(case.calls[0]) == (2 * N_PATCHES, 2 * 6)
    assert case.workload is not None
    assert case.workload.generation["num_beams"] == 5


def embeds_of(specimen: Specimen) -> Inputs:
    model: Any = specimen.model
    inputs = dict(specimen.inputs)
    with torch.no_grad():
        features = model(**inputs).image_embeds
    del inputs["pixel_values"]
    return {**inputs, "image_embeds": features}


def measured(specimen: Specimen, inputs: Mapping[str, object]) -> Case:
    clock = FakeClock()
    with delayed(block_modules(specimen)[0], lambda: clock.advance_ms(3)):
        return measure_generate(specimen.generate, kwargs=inputs, rounds=1, clock=clock)


def test_features_that_are_passed_in_are_vision_tokens() -> None:
    kosmos = build("kosmos-2")

    case = measured(kosmos, embeds_of(kosmos))

    assert case.labels == ("features",)
    assert counts(case.calls[0]) == (kosmos.n_vision_tokens, kosmos.n_text_tokens)


@pytest.mark.skipif(
    not hasattr(GenerationMixin, "_expand_multimodal_outputs"),
    reason="this transformers takes no outputs of an encoder of images",
)
@pytest.mark.parametrize("name", ["llava", "llava_next"])
def test_outputs_of_vision_by_modality_are_vision_tokens(name: str) -> None:
    specimen = build(name)
    base: Any = specimen.model.base_model
    taken = inspect.signature(base.get_image_features).parameters
    given = {key: value for key, value in specimen.inputs.items() if key in taken}
    rest = {key: value for key, value in specimen.inputs.items() if key not in taken}
    with torch.no_grad():
        output = base.get_image_features(**given, return_dict=True)

    case = measured(specimen, {**rest, "mm_encoder_outputs": {"image": output}})

    assert case.labels == ("features",)
    assert counts(case.calls[0]) == (specimen.n_vision_tokens, specimen.n_text_tokens)


@pytest.mark.parametrize("name", [it for it in ("florence2", "t5gemma2") if it in available()])
def test_what_an_encoder_made_of_an_image_and_words_is_told_apart_by_the_words(name: str) -> None:
    specimen = build(name)
    model: Any = specimen.model
    start = torch.tensor([[1]])
    with torch.no_grad():
        states = model(**specimen.inputs, decoder_input_ids=start).encoder_last_hidden_state
    output = BaseModelOutput(last_hidden_state=states)

    alone = measured(specimen, {"encoder_outputs": output})
    beside = measured(
        specimen, {"encoder_outputs": output, "input_ids": specimen.inputs["input_ids"]}
    )

    assert counts(alone.calls[0]) == (None, None)
    assert counts(beside.calls[0]) == (specimen.n_vision_tokens, specimen.n_text_tokens)


@pytest.mark.parametrize("name", ["vision-encoder-decoder", "pix2struct"])
def test_what_an_encoder_made_of_an_image_before_is_vision(name: str) -> None:
    specimen = build(name)
    model: Any = specimen.model
    with torch.no_grad():
        states = model.get_encoder()(specimen.pixels)

    case = measured(specimen, {"encoder_outputs": states})

    assert case.labels == ("features",)
    assert counts(case.calls[0]) == (specimen.n_vision_tokens, 0)


@pytest.mark.parametrize("name", ["mllama", "idefics", "blip"])
def test_vision_that_is_attended_to_is_counted_beside_a_long_prompt(name: str) -> None:
    specimen = build(name)
    n_columns, inputs = specimen.inputs["input_ids"].shape[1], dict(specimen.inputs)
    for key, value in specimen.inputs.items():
        if "pixel" not in key and value.dim() > 1 and value.shape[1] == n_columns:
            before_last = value[:, -2:-1].expand(-1, 80, *value.shape[2:])
            inputs[key] = torch.cat([value[:, :-1], before_last, value[:, -1:]], dim=1)

    case = measured(specimen, inputs)

    assert counts(case.calls[0]) == (specimen.n_vision_tokens, specimen.n_text_tokens + 80)


def test_vectors_are_features_by_their_width_whatever_they_are_called(llava: Specimen) -> None:
    features = torch.zeros(5, 64)
    named = {
        "anything": features,
        "in_a_list": [features, features],
        "inputs_embeds": features,
        "attention_mask": features,
        "image_sizes": torch.tensor([[32, 32]]),
        "narrow": torch.zeros(5, 3),
    }

    assert set(find_features(named, (), llava.model)) == {"anything", "in_a_list"}


@pytest.mark.parametrize(("n_columns", "n_held"), [(4, 0), (5, 0), (6, 5)])
def test_a_prompt_no_longer_than_its_cache_is_new_words_alone(n_columns: int, n_held: int) -> None:
    cache = DynamicCache()
    cache.update(torch.zeros(1, 1, 5, 4), torch.zeros(1, 1, 5, 4), 0)
    prompt = torch.zeros(1, n_columns, dtype=torch.long)

    assert count_held_columns({"past_key_values": cache}, prompt, None) == n_held
