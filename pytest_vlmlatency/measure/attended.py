"""What a decoder attends to across: an encoder's states, which its first block is given to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# B rows, Q queries, L states, D width.
STATES_DIMS = 3
MASK_DIMS = 4


@dataclass(frozen=True, slots=True)
class Attended:
    """An encoder's states by their sizes, and the mask over them: None where all count."""

    n_rows: int
    length: int
    mask: torch.Tensor | None

    def n_tokens(self) -> int:
        """Return how many states of all rows are no padding. Waits for the mask's device."""
        if self.mask is None:
            return self.n_rows * self.length
        last_query = self.mask[:, 0, -1]  # (B, 1, Q, L) -> (B, L)
        is_floating = last_query.is_floating_point()
        floor = torch.finfo(last_query.dtype).min / 2 if is_floating else 0
        return int((last_query > floor).sum()) * self.n_rows // len(last_query)


def find_attended(hidden: torch.Tensor, inputs: Sequence[object]) -> Attended | None:
    """Return the states (B, L, D) that a block was given beside `hidden`, None without any."""
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    for states in tensors:
        is_other = states is not hidden and states.is_floating_point()
        if is_other and states.dim() == STATES_DIMS and len(states) == len(hidden):
            length = states.shape[1]
            masks = [mask for mask in tensors if mask.dim() == MASK_DIMS]
            # A block's own mask comes first, and may be as long.
            over_states = [mask for mask in masks if mask.shape[-1] == length]
            return Attended(len(states), length, over_states[-1] if over_states else None)
    return None
