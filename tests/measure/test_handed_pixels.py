"""Pixels that a loop passes to every step: measured where vision runs once, refused otherwise."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency import InvalidMeasurement
from tests.builders import FakeClock
from tests.measure.custom_models import WIDTH, Captioner, measure_custom


class Hands(Captioner):
    """Passes the image to its forward in every step, which leaves it after the prompt."""

    def wants(self, input_ids: torch.Tensor) -> bool:
        return input_ids.shape[1] > 1

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.embed(input_ids)
        if self.wants(input_ids):
            states = torch.cat([self.encode(images), states], dim=1)
        return states

    def forward(  # type: ignore[override]  # images are always there
        self, input_ids: torch.Tensor, images: torch.Tensor
    ) -> SimpleNamespace:
        states = self.states_of(input_ids, images)
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))

    @torch.no_grad()
    def generate(  # type: ignore[override]  # images are always there
        self, input_ids: torch.Tensor, images: torch.Tensor, max_new_tokens: int = 8
    ) -> torch.Tensor:
        tokens = [self(input_ids, images).logits[:, -1].argmax(-1, keepdim=True)]
        while len(tokens) < max_new_tokens:
            tokens.append(self(tokens[-1], images).logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat([input_ids, *tokens], dim=1)


class Embedder(nn.Module):
    """Embeds words, and the image with them, beside a parameter of its own and a norm of text."""

    def __init__(self, outer: Captioner) -> None:
        super().__init__()
        self.words, self.tower, self.proj = outer.embed, outer.vision, outer.proj
        self.norm, self.gap = nn.LayerNorm(WIDTH), nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.norm(self.words(input_ids))
        if input_ids.shape[1] > 1:
            states = torch.cat([self.proj(self.tower(images)), self.gap, states], dim=1)
        return states


class HandsToEmbedder(Hands):
    def __init__(self) -> None:
        super().__init__()
        self.embedder = Embedder(self)

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.embedder(input_ids, images)
        return states


class Remembering(nn.Module):
    """Runs what it holds once, and returns the same features when it is given pixels again."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower, self.scale = tower, nn.Parameter(torch.ones(1))
        self.features: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.features is None:
            self.features = self.tower(images) * self.scale
        return self.features


class HandsToMemory(Hands):
    """Asks a tower that remembers in every step, and uses its features for the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Remembering(self.vision)

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        if input_ids.shape[1] > 1:
            self.memory.features = None
        states: torch.Tensor = self.embed(input_ids)
        features = self.memory(images)
        if input_ids.shape[1] > 1:
            states = torch.cat([self.proj(features), states], dim=1)
        return states


class HandsToMethod(Hands):
    """Calls get_image_features() in every step, which remembers what it gave."""

    features: torch.Tensor | None = None

    def get_image_features(self, images: torch.Tensor) -> torch.Tensor:
        if self.features is None:
            self.features = self.encode(images)
        return self.features

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.embed(input_ids)
        if input_ids.shape[1] > 1:
            self.features = None
        features = self.get_image_features(images)
        return torch.cat([features, states], dim=1) if input_ids.shape[1] > 1 else states


class HandsAndScales(Hands):
    """Scales the pixels in every step by a module without weights, and encodes them once."""

    def __init__(self) -> None:
        super().__init__()
        self.scaling = nn.Dropout(0.0)

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return super().states_of(input_ids, self.scaling(images))


class HandsWithoutLogits(Hands):
    """Returns its logits as a plain tensor."""

    def __call__(self, *args: object, **kwargs: object) -> SimpleNamespace:
        return SimpleNamespace(logits=super().__call__(*args, **kwargs))

    def forward(  # type: ignore[override]  # the point
        self, input_ids: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        logits: torch.Tensor = super().forward(input_ids, images).logits
        return logits


@pytest.mark.parametrize(
    "kind",
    [Hands, HandsToEmbedder, HandsToMemory, HandsToMethod, HandsAndScales, HandsWithoutLogits],
)
def test_pixels_that_steps_are_given_and_leave_are_no_vision(
    clock: FakeClock, kind: type[Hands]
) -> None:
    case = measure_custom(kind(), clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms) == (71, 3, 21, 0)
    assert (call.n_vision_calls, call.n_decode_steps) == (1, 7)


def test_an_embedder_for_words_and_images_ends_where_its_vision_does(clock: FakeClock) -> None:
    delays_ms = {"vision": 60, "proj": 11, "embedder.norm": 2, "blocks.0": 3}

    call = measure_custom(HandsToEmbedder(), clock, delays_ms=delays_ms).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 5, 7 * 5)


class HandsAlways(HandsToEmbedder):
    """Its embedder encodes the image in every step."""

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        twice = input_ids.repeat(1, 2) if input_ids.shape[1] == 1 else input_ids
        states: torch.Tensor = self.embedder(twice, images)
        return states


class ScalesWithWeights(Hands):
    """Works on the pixels in every step by one module with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scaling = nn.Conv2d(3, 3, 1)

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return super().states_of(input_ids, self.scaling(images))


class EncodesLater(Hands):
    """Encodes the image by a second tower in the steps alone."""

    def states_of(self, input_ids: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        states = super().states_of(input_ids, images)
        if not self.wants(input_ids):
            states = states + self.vision_2(images).mean(dim=1, keepdim=True)
        return states


@pytest.mark.parametrize(
    ("kind", "part"),
    [(HandsAlways, "embedder"), (ScalesWithWeights, "scaling"), (EncodesLater, "vision_2")],
)
def test_pixels_that_steps_work_on_are_refused_by_name(
    clock: FakeClock, kind: type[Hands], part: str
) -> None:
    with pytest.raises(InvalidMeasurement, match=rf"^{part} worked on the pixels again in decode"):
        measure_custom(kind(), clock)
