"""A choice of the next token that takes time, between a forward and the token's own."""

import torch
from transformers import LogitsProcessor

from tests.builders import FakeClock

TOKEN_MS = 2


class Ticking(LogitsProcessor):
    """Takes 2 ms for each token, so that there is decode time after the prompt's logits."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._clock.advance_ms(TOKEN_MS)
        return scores
