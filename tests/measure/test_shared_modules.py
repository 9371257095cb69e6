"""One module in several places, or called several times: measured right, or refused."""

from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock
from tests.measure.custom_models import (
    N_PATCHES,
    PROMPT,
    WIDTH,
    Captioner,
    Images,
    measure_custom,
)

N_ROUNDS = 3
BLOCK_0 = "blocks.0"


class OneBlockListedThrice(Captioner):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.blocks[0]] * N_ROUNDS)


class GoesRound(Captioner):
    """Runs its blocks in rounds, as models do that share weights between layers."""

    n_blocks = 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = self.blocks[: self.n_blocks]

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for _ in range(N_ROUNDS):
            for block in self.blocks:
                states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class GoesRoundTwoBlocks(GoesRound):
    n_blocks = 2


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        (OneBlockListedThrice(), (BLOCK_0,) * N_ROUNDS),
        (GoesRound(), (BLOCK_0,) * N_ROUNDS),
        (GoesRoundTwoBlocks(), (BLOCK_0, "blocks.1") * N_ROUNDS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_block_that_runs_several_times_a_step_is_a_block_each_time(
    model: Captioner, blocks: tuple[str, ...], clock: FakeClock
) -> None:
    case = measure_custom(model, clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 3 * N_ROUNDS, 21 * N_ROUNDS)
    assert (call.n_vision_tokens, call.n_text_tokens) == (N_PATCHES, PROMPT.numel())
    assert case.phase_map is not None
    assert case.phase_map.blocks == blocks


class TwoViews(Captioner):
    """Shows one tower the image and its mirror image."""

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        views = torch.cat([self.vision(images), self.vision(images.flip(-1))], dim=1)
        return self.proj(views).reshape(1, -1, WIDTH)  # type: ignore[no-any-return]  # a module's


class TowerByTwoNames(Captioner):
    def __init__(self) -> None:
        super().__init__()
        self.vision_2 = self.vision

    def encode(self, images: Images) -> torch.Tensor:
        features: torch.Tensor = self.proj(self.vision_2(images))
        return features.reshape(1, -1, WIDTH)


class TiedWords(Captioner):
    def __init__(self) -> None:
        super().__init__()
        self.lm_head = nn.Linear(WIDTH, self.embed.num_embeddings, bias=False)
        self.lm_head.weight = self.embed.weight


@pytest.mark.parametrize(
    ("model", "n_times"), [(TwoViews(), 2), (TowerByTwoNames(), 1), (TiedWords(), 1)]
)
def test_a_tower_for_two_views_and_a_part_with_two_names_are_measured(
    model: Captioner, n_times: int, clock: FakeClock
) -> None:
    call = measure_custom(model, clock).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60 * n_times + 11, 3, 21)
    assert (call.n_vision_calls, call.n_vision_tokens) == (n_times, N_PATCHES * n_times)


class OneTrunk(Captioner):
    """Its tower's layers are the decoder's blocks: pixels pass them inside the prompt's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.vision.layers = self.blocks


class OneTrunkBefore(OneTrunk):
    """Encodes the image before the prompt's forward."""

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        assert images is not None
        features = self.encode(images)
        tokens = [self.read(features, input_ids)]
        while len(tokens) < max_new_tokens:
            tokens.append(self.read(None, tokens[-1]))
        return torch.cat([input_ids, *tokens], dim=1)

    def read(self, features: torch.Tensor | None, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self(input_ids, features).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            assert isinstance(images, torch.Tensor)
            states = torch.cat([images, states], dim=1)
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


TRUNK_DELAYS_MS: Mapping[str, float] = MappingProxyType({"proj": 11, BLOCK_0: 3})


def test_blocks_that_vision_shares_before_the_prompt_are_each_in_their_phase(
    clock: FakeClock,
) -> None:
    call = measure_custom(OneTrunkBefore(), clock, delays_ms=TRUNK_DELAYS_MS).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (11 + 3, 3, 7 * 3)
    assert (call.n_vision_tokens, call.n_text_tokens) == (N_PATCHES, PROMPT.numel())


def test_blocks_that_vision_shares_inside_the_prompt_are_refused(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"no list of blocks was seen whose children run"):
        measure_custom(OneTrunk(), clock, delays_ms=TRUNK_DELAYS_MS)
