"""Vision-language models of nobody's library: small modules with a generate() of their own.

Each does one thing otherwise than transformers' models do. `measure_custom` measures one with
delays that its test names; vision runs through `vision` and `proj`, text through `blocks`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType, SimpleNamespace

import torch
from torch import nn

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.options import PhaseOverride
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed

WIDTH, N_WORDS, PATCH = 16, 50, 8
N_PATCHES = 16  # of an image of 32 x 32
PROMPT = torch.tensor([[1, 2, 3, 4]])
IMAGE = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
IMAGES = torch.cat([IMAGE, 2 * IMAGE, 3 * IMAGE])
ASKED: Mapping[str, object] = MappingProxyType({"input_ids": PROMPT, "images": IMAGE})
DELAYS_MS = MappingProxyType({"vision": 60, "proj": 11, "blocks.0": 3})

Images = torch.Tensor | Sequence[torch.Tensor]


def measure_custom(
    model: "Captioner",
    clock: FakeClock,
    inputs: Mapping[str, object] = ASKED,
    *,
    delays_ms: Mapping[str, float] = DELAYS_MS,
    phases: PhaseOverride | None = None,
) -> Case:
    """Measure `model.generate(**inputs)` with a delay of so many ms in each named module."""
    with ExitStack() as delays:
        for path, delay_ms in delays_ms.items():
            delay = partial(clock.advance_ms, delay_ms)
            delays.enter_context(delayed(model.get_submodule(path), delay))
        return measure_generate(model.generate, kwargs=inputs, rounds=1, phases=phases, clock=clock)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + torch.tanh(self.linear(states))


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.patch(images).flatten(2).transpose(1, 2)
        for layer in self.layers:
            states = layer(states)
        return states


class Captioner(nn.Module):
    """Vision inside the first forward, logits as an attribute, greedy decoding without a cache.

    `preprocess` runs at the start of generate(), `pool` between the tower and the projector.
    """

    def __init__(
        self,
        *,
        preprocess: Callable[[], None] = lambda: None,
        pool: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.vision, self.vision_2 = Tower(), Tower()
            self.proj = nn.Linear(WIDTH, WIDTH)
            self.embed = nn.Embedding(N_WORDS, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(3)])
            self.lm_head = nn.Linear(WIDTH, N_WORDS)
        self.preprocess, self.pool = preprocess, pool

    def encode(self, images: Images) -> torch.Tensor:
        features: torch.Tensor = self.vision(images)
        self.pool()
        features = self.proj(features)
        return features.reshape(1, -1, WIDTH)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        self.preprocess()
        tokens = [self(input_ids, images).logits[:, -1].argmax(-1, keepdim=True)]
        while len(tokens) < max_new_tokens:
            tokens.append(self(tokens[-1]).logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat([input_ids, *tokens], dim=1)


class OneByOne(Captioner):
    """Encodes each image by a call of its own."""

    def encode(self, images: Images) -> torch.Tensor:
        features = [self.vision(image.reshape(1, 3, 32, 32)) for image in images]
        projected: torch.Tensor = self.proj(torch.cat(features, dim=1))
        return projected


class FromBytes(Captioner):
    """Takes pixels from 0 to 255."""

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        return super().encode(images.float() / 255)


class OddlyNamed(Captioner):
    """Calls its prompt idx and its pixels x, and returns new tokens alone."""

    def generate(  # type: ignore[override]  # other names are the point
        self, idx: torch.Tensor, x: Images | None = None
    ) -> torch.Tensor:
        return super().generate(idx, x)[:, idx.shape[1] :]


class FromPicture(Captioner):
    """Makes its tensors inside generate(), from a text and a picture."""

    def generate(self, prompt: str, image: object) -> str:  # type: ignore[override]  # the point
        return str(super().generate(PROMPT, IMAGE).tolist())


class Sharp(Captioner):
    """Encodes the image by a second tower, too, while `is_sharp`."""

    is_sharp = False

    def encode(self, images: Images) -> torch.Tensor:
        features = super().encode(images)
        if not self.is_sharp:
            return features
        return torch.cat([features, self.vision_2(images).reshape(1, -1, WIDTH)], dim=1)


class KeepsPixels(Captioner):
    """Encodes the image again in every later step, by `again`."""

    def __init__(self, again: Callable[["KeepsPixels", torch.Tensor], object]) -> None:
        super().__init__()
        self.again, self.pixels = again, IMAGE

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if images is None:
            self.again(self, self.pixels)
        return super().forward(input_ids, images)


class Text(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(N_WORDS, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            states = block(states)
        return states


class HeadAtRoot(Captioner):
    """Calls its head after the step module, whose output is no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.text = Text()

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        words = self.text.embed.weight
        states = nn.functional.embedding(input_ids, words)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        tokens = [input_ids]
        for _ in range(max_new_tokens):
            tokens.append(self.lm_head(self.text(states))[:, -1].argmax(-1, keepdim=True))
            states = nn.functional.embedding(tokens[-1], words)
        return torch.cat(tokens, dim=1)
