"""Vision, prompts and steps that run out of order or unseen: refused by name, or measured right."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency import InvalidMeasurement
from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock
from tests.measure.custom_models import (
    ASKED,
    IMAGES,
    N_PATCHES,
    N_WORDS,
    WIDTH,
    Block,
    Captioner,
    Images,
    Text,
    measure_custom,
)


class TwoSizes(Captioner):
    """Shows a smaller image to a second tower, before the first one gets the pixels."""

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        small = nn.functional.interpolate(images, size=(16, 16))
        overview = self.vision_2(small).reshape(1, -1, WIDTH)
        return torch.cat([overview, super().encode(images)], dim=1)


class GreyFirst(Captioner):
    """Works on patches of a grey image, which nothing tells from text, before the tower."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Linear(64, WIDTH)

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        overview = self.grey(images.mean(dim=1).reshape(1, N_PATCHES, -1))
        return torch.cat([overview, super().encode(images)], dim=1)


class Midway(Captioner):
    """Shows the image to a second tower once the first block has run."""

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for index, block in enumerate(self.blocks):
            states = block(states)
            if index == 0 and images is not None:
                states = states + self.vision_2(images).mean(dim=1, keepdim=True)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class Hears(Captioner):
    """Encodes sound, too, after the image."""

    def __init__(self) -> None:
        super().__init__()
        self.ear = nn.Linear(8, WIDTH)

    def generate(  # type: ignore[override]  # sound is the point
        self, input_ids: torch.Tensor, images: Images, audio_values: torch.Tensor
    ) -> torch.Tensor:
        self.ear(audio_values)
        return super().generate(input_ids, images)


class PositionsOnce(Captioner):
    """Makes a mask by a module that has no weights, and runs for the prompt alone."""

    def __init__(self) -> None:
        super().__init__()
        self.make_mask = nn.Identity()

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if images is not None:
            self.make_mask(input_ids)
        return super().forward(input_ids, images)


class Mixes(Captioner):
    """Runs a block over the whole prompt, image and words, before the decoder's own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = Block()

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = self.mix(torch.cat([self.encode(images), states], dim=1))
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class Around(nn.Module):
    """Lets an inner model generate, as often as asked, each time from what came out before."""

    def __init__(self, n_times: int) -> None:
        super().__init__()
        self.inner, self.n_times = Captioner(), n_times

    def generate(self, input_ids: torch.Tensor, images: Images | None = None) -> torch.Tensor:
        output = self.inner.generate(input_ids, images)
        for _ in range(self.n_times - 1):
            output = self.inner.generate(output)
        return output


class PastHooks(Captioner):
    """Calls its own forward() rather than itself."""

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        tokens = [self.forward(input_ids, images).logits[:, -1].argmax(-1, keepdim=True)]
        while len(tokens) < max_new_tokens:
            tokens.append(self.forward(tokens[-1]).logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat([input_ids, *tokens], dim=1)


class NormedEmbedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.norm = nn.Embedding(N_WORDS, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.norm(self.words(input_ids))
        return normed


class NormsItsWords(Captioner):
    """Calls embedding, text and head one after another; the embedding has modules inside."""

    def __init__(self) -> None:
        super().__init__()
        self.text = Text()
        self.embed = NormedEmbedding()  # type: ignore[assignment]  # the point

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        states = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        tokens = [input_ids]
        while len(tokens) <= max_new_tokens:
            tokens.append(self.lm_head(self.text(states))[:, -1].argmax(-1, keepdim=True))
            states = self.embed(tokens[-1])
        return torch.cat(tokens, dim=1)


class EmbedsAfterwards(NormsItsWords):
    """Embeds its words once the image is encoded."""

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        features = [] if images is None else [self.encode(images)]
        states = torch.cat([*features, self.embed(input_ids)], dim=1)
        tokens = [input_ids]
        while len(tokens) <= max_new_tokens:
            tokens.append(self.lm_head(self.text(states))[:, -1].argmax(-1, keepdim=True))
            states = self.embed(tokens[-1])
        return torch.cat(tokens, dim=1)


class ReadsOneByOne(Captioner):
    """Encodes and projects each image by calls of their own, and attends across to all."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(WIDTH, WIDTH)

    def encode(self, images: Images) -> torch.Tensor:
        parts = [self.proj(self.vision(image.reshape(1, 3, 32, 32))) for image in images]
        return torch.cat(parts, dim=1)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        features = [] if images is None else [self.encode(images)]
        states = self.embed(input_ids)
        for block in self.blocks:
            states = block(states)
        for seen in features:
            states = states + self.read(seen).mean(dim=1, keepdim=True)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class PoolsAndNames(Captioner):
    """Pools four features into one by no module, and calls its blocks by keyword."""

    def encode(self, images: Images) -> torch.Tensor:
        return super().encode(images).reshape(1, -1, 4, WIDTH).mean(dim=2)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for block in self.blocks:
            states = block(states=states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class OneTuple(Captioner):
    """Returns its logits in a tuple, from an inner module's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks.append(Block())

    def __call__(self, *args: object, **kwargs: object) -> SimpleNamespace:
        return SimpleNamespace(logits=super().__call__(*args, **kwargs)[0])

    def forward(  # type: ignore[override]  # the point
        self, input_ids: torch.Tensor, images: Images | None = None
    ) -> tuple[torch.Tensor]:
        return (super().forward(input_ids, images).logits,)


def measure_around(n_times: int, clock: FakeClock) -> float:
    """Measure an inner model's decode, of 7 steps of 3 ms each time."""
    model = Around(n_times)
    delays_ms = {"inner.vision": 60, "inner.blocks.0": 3}
    case = measure_custom(model, clock, delays_ms=delays_ms)  # type: ignore[arg-type]  # no Captioner
    return case.calls[0].decode_ms


def test_a_tower_for_pixels_of_another_size_is_vision(clock: FakeClock) -> None:
    delays_ms = {"vision_2": 100, "vision": 60, "proj": 11, "blocks.0": 3}

    call = measure_custom(TwoSizes(), clock, delays_ms=delays_ms).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.other_ms) == (171, 3, 0)


def test_a_module_that_runs_before_the_tower_is_refused_by_name(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"^grey ran for the prompt alone, before 'vision'"):
        measure_custom(GreyFirst(), clock)


def test_a_module_that_runs_before_the_tower_is_measured_once_it_is_named(clock: FakeClock) -> None:
    named = {"vision": ["grey", "vision", "proj"]}
    delays_ms = {"grey": 100, "vision": 60, "proj": 11, "blocks.0": 3}

    call = measure_custom(GreyFirst(), clock, delays_ms=delays_ms, phases=named).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.other_ms) == (171, 3, 0)


def test_a_tower_between_blocks_is_refused_by_name(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"^vision_2 worked .* the first block 'blocks.0' had"):
        measure_custom(Midway(), clock)


def test_a_block_for_the_prompt_alone_is_refused_by_name(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"^mix ran .* on states of the sizes \[1, 20, 16\]"):
        measure_custom(Mixes(), clock)


def test_a_block_for_the_prompt_alone_is_no_vision_once_vision_is_named(clock: FakeClock) -> None:
    named = {"vision": ["vision", "proj"]}
    delays_ms = {"vision": 60, "proj": 11, "mix": 100, "blocks.0": 3}

    call = measure_custom(Mixes(), clock, delays_ms=delays_ms, phases=named).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.other_ms) == (71, 103, 0)


def test_sound_is_refused_by_name(clock: FakeClock) -> None:
    inputs = {**ASKED, "audio_values": torch.ones(1, 5, 8)}

    with pytest.raises(InvalidMeasurement, match=r"^audio_values looks like sound; expected text"):
        measure_custom(Hears(), clock, inputs)


def test_what_has_no_weights_may_run_for_the_prompt_alone(clock: FakeClock) -> None:
    call = measure_custom(PositionsOnce(), clock).calls[0]

    assert (call.vision_ms, call.prefill_ms) == (71, 3)


def test_an_inner_models_generate_is_measured(clock: FakeClock) -> None:
    assert measure_around(1, clock) == 7 * 3


def test_an_inner_models_second_prompt_is_refused_by_name(clock: FakeClock) -> None:
    with pytest.raises(InvalidMeasurement, match=r"^inner.generate\(\) ran 2 times inside one"):
        measure_around(2, clock)


def test_a_forward_that_hooks_do_not_see_is_refused_with_what_to_do(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"blocks.2 were called by no module.* self\(inp"):
        measure_custom(PastHooks(), clock)


@pytest.mark.parametrize(
    ("model", "step", "delays_ms"),
    [
        (NormsItsWords(), "text", {"vision": 60, "proj": 11, "embed": 0, "text.blocks.0": 3}),
        (EmbedsAfterwards(), "text", {"vision": 60, "proj": 11, "text.blocks.0": 3}),
        (OneTuple(), "", {"vision": 60, "proj": 11, "blocks.0": 3}),
    ],
    ids=["embedding and head outside", "embedding after vision", "a tuple"],
)
def test_steps_without_logits_of_their_own_are_found(
    clock: FakeClock, model: Captioner, step: str, delays_ms: Mapping[str, float]
) -> None:
    case = measure_custom(model, clock, delays_ms=delays_ms)

    call = case.calls[0]
    assert case.phase_map is not None
    assert case.phase_map.step == step
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 3, 21)


def test_each_images_vectors_count_as_vision_tokens(clock: FakeClock) -> None:
    call = measure_custom(ReadsOneByOne(), clock, {**ASKED, "images": IMAGES}).calls[0]

    assert (call.n_vision_tokens, call.n_text_tokens) == (3 * N_PATCHES, 4)


def test_what_the_blocks_see_counts_whatever_they_call_it(clock: FakeClock) -> None:
    call = measure_custom(PoolsAndNames(), clock).calls[0]

    assert (call.n_vision_tokens, call.n_text_tokens) == (N_PATCHES // 4, 4)
