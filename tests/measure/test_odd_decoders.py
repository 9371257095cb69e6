"""Decoders whose blocks are kept, shared or called otherwise than in a list of layers."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock
from tests.measure.custom_models import WIDTH, Block, Captioner, Images, measure_custom


class GatedBlock(nn.Module):
    """Has a list of its own inside."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.Tanh(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = self.mlp(torch.tanh(self.gate(states)))
        return states + gated


class Decoder(Captioner):
    """Goes through its blocks by a method that others replace."""

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        return SimpleNamespace(logits=self.lm_head(self.decode(states)[:, -1:]))

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            states = block(states)
        return states


class InDict(Decoder):
    """Keeps its blocks in a ModuleDict."""

    def __init__(self) -> None:
        super().__init__()
        named = {f"layer_{index}": GatedBlock() for index in range(3)}
        self.blocks = nn.ModuleDict(named)  # type: ignore[assignment]  # the point

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks.values():  # type: ignore[operator]  # a ModuleDict
            states = block(states)
        return states


class AllInDict(Decoder):
    """Keeps embedding, blocks and norm side by side in a ModuleDict, the embedding being large."""

    def __init__(self) -> None:
        super().__init__()
        parts = {
            "wte": nn.Embedding(1000, WIDTH),
            "blocks": nn.ModuleList([Block() for _ in range(3)]),
            "ln_f": nn.LayerNorm(WIDTH),
        }
        self.transformer = nn.ModuleDict(parts)

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        states = states + self.transformer["wte"](torch.zeros(1, 1, dtype=torch.long))
        for block in self.transformer["blocks"]:  # type: ignore[attr-defined]  # a ModuleList
            states = block(states)
        normed: torch.Tensor = self.transformer["ln_f"](states)
        return normed


class LargeHead(Decoder):
    """Has a head that is a list, too, with more parameters than all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5000, WIDTH)
        self.lm_head = nn.Sequential(  # type: ignore[assignment]  # the point
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5000)
        )


class Looped(LargeHead):
    """Goes through two blocks three times."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        for block in [*self.blocks] * 3:
            states = block(states)
        return states


class LoopedInside(Decoder):
    """Goes through the two blocks in its middle twice."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(4)])

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        for index in (0, 1, 2, 1, 2, 3):
            states = self.blocks[index](states)
        return states


class Shared(Decoder):
    """Has one block, three times."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block()] * 3)


class Swapped(Decoder):
    """Calls the second block of each pair before the first."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(4)])

    def decode(self, states: torch.Tensor) -> torch.Tensor:
        for index in (0, 2):
            states = self.blocks[index + 1](states) + self.blocks[index](states)
        return states


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        (InDict(), ("blocks.layer_0", "blocks.layer_1", "blocks.layer_2")),
        (AllInDict(), tuple(f"transformer.blocks.{index}" for index in range(3))),
        (LargeHead(), ("blocks.0", "blocks.1", "blocks.2")),
        (Looped(), ("blocks.0", "blocks.1") * 3),
        (LoopedInside(), tuple(f"blocks.{index}" for index in (0, 1, 2, 1, 2, 3))),
        (Shared(), ("blocks.0",) * 3),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_the_blocks_are_found_wherever_they_are_kept(
    clock: FakeClock, model: Decoder, blocks: tuple[str, ...]
) -> None:
    case = measure_custom(model, clock, delays_ms={"vision": 60, "proj": 11, blocks[0]: 1})

    call, phase_map = case.calls[0], case.phase_map
    assert phase_map is not None
    assert phase_map.blocks == blocks
    assert call.vision_ms == 71
    assert call.decode_ms == 7 * call.prefill_ms > 0
    assert (call.n_vision_tokens, call.n_text_tokens) == (16, 4)


def test_blocks_that_run_out_of_order_are_refused(clock: FakeClock) -> None:
    with pytest.raises(PhasesNotFound, match=r"no list of blocks .* in order, in all of 3 steps"):
        measure_custom(Swapped(), clock)
