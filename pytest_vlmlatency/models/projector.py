"""From a vision tower's patches to MolmoE's image tokens, and from crops to one image.

2x2 attention pooling, a SwiGLU network, and joining overlapping crops. Knows no model around it.
"""

# mypy: allow-untyped-calls
# (torch annotates only a part of its functions.)

from __future__ import annotations

import torch
from torch import nn

# I images, C crops of each (the overview first), P patches along a crop's side, N pools (2x2
# patches) along it, W width of the tower, L its feature layers, H width of the text decoder,
# T image tokens.


class AttentionPooling(nn.Module):
    """Each 2x2 square of patches attends to itself, with its mean as the query."""

    def __init__(self, features_width: int, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(features_width, width)
        self.k_proj = nn.Linear(features_width, width)
        self.v_proj = nn.Linear(features_width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return one vector for each square."""
        n_crops, patches = features.shape[:2]
        pools = patches // 2
        squares = features.unflatten(1, (pools, 2)).unflatten(3, (pools, 2))
        squares = squares.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # -> (I*C*N*N, 4, L*W)
        pooled = nn.functional.scaled_dot_product_attention(
            self._heads(self.q_proj(squares.mean(dim=1, keepdim=True))),
            self._heads(self.k_proj(squares)),
            self._heads(self.v_proj(squares)),
        )
        joined: torch.Tensor = self.o_proj(pooled.transpose(1, 2).flatten(1))
        return joined.view(n_crops, pools, pools, -1)  # (I*C, P, P, L*W) -> (I*C, N, N, W)

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = states.unflatten(-1, (self.n_heads, -1))
        return heads.transpose(1, 2)


class MolmoeProjector(nn.Module):
    """Attention pooling, then a SwiGLU network to the text decoder's width."""

    def __init__(
        self, *, features_width: int, width: int, n_heads: int, inner_width: int, text_width: int
    ) -> None:
        super().__init__()
        self.pooling = AttentionPooling(features_width, width, n_heads)
        self.gate_proj = nn.Linear(width, inner_width, bias=False)
        self.up_proj = nn.Linear(width, inner_width, bias=False)
        self.down_proj = nn.Linear(inner_width, text_width, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the tokens of each crop, margins included."""
        pooled = self.pooling(features)
        gated = nn.functional.silu(self.gate_proj(pooled)) * self.up_proj(pooled)
        projected: torch.Tensor = self.down_proj(gated)
        return projected  # (I*C, P, P, L*W) -> (I*C, N, N, H)


def without_overlap(crops: torch.Tensor, rows: int, columns: int, margin: int) -> torch.Tensor:
    """Return an image's tokens: its overview, then its crops joined where their margins meet."""
    overview, *others = crops  # (N, N, H) each
    bands = []
    for row in range(rows):
        across = [
            others[row * columns + column][_kept(row, rows, margin)][
                :, _kept(column, columns, margin)
            ]
            for column in range(columns)
        ]
        bands.append(torch.cat(across, dim=1))
    grid = torch.cat(bands, dim=0)
    return torch.cat([overview.flatten(0, 1), grid.flatten(0, 1)])  # -> (T, H)


def _kept(index: int, count: int, margin: int) -> slice:
    """Return what a crop keeps along one direction: the margin only at the image's own border."""
    return slice(0 if index == 0 else margin, None if index == count - 1 else -margin)
