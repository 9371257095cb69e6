"""The sizes of the MolmoE shape and the tiers of its input, as plain data.

Importing this loads neither torch nor transformers; `molmoe` builds models from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TIERS: Mapping[str, tuple[int, int]] = {"low": (1, 2), "medium": (2, 3), "high": (3, 4)}
"""Crops of a MolmoE tier besides the overview: the shorter and the longer side of their grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MolmoeScale:
    """One size of the MolmoE shape: a vision tower over `crop_patches`² patches, 16 blocks.

    `margin_patches` of each side of a crop overlap its neighbour and are dropped there.
    """

    crop_patches: int
    margin_patches: int
    vision_width: int
    vision_mlp_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_heads: int
    expert_width: int
    n_experts: int
    vocabulary: int | None
    dtype: str = "float32"

    n_blocks: int = 16
    patch_pixels: int = 14


MOLMOE_SCALES: Mapping[str, MolmoeScale] = {
    "nano": MolmoeScale(
        crop_patches=8,
        margin_patches=2,
        vision_width=32,
        vision_mlp_width=64,
        vision_layers=9,
        vision_heads=2,
        text_width=64,
        text_heads=4,
        expert_width=32,
        n_experts=12,  # as many as the largest top_k: on a CPU each one costs
        vocabulary=None,
    ),
    "tiny": MolmoeScale(
        crop_patches=12,
        margin_patches=2,
        vision_width=64,
        vision_mlp_width=256,
        vision_layers=10,
        vision_heads=4,
        text_width=128,
        text_heads=4,
        expert_width=64,
        n_experts=16,
        vocabulary=None,
    ),
    "small": MolmoeScale(
        crop_patches=16,
        margin_patches=4,
        vision_width=128,
        vision_mlp_width=512,
        vision_layers=12,
        vision_heads=4,
        text_width=256,
        text_heads=8,
        expert_width=128,
        n_experts=32,
        vocabulary=None,
    ),
    # config.json of allenai/MolmoE-1B-0924; OLMoE's vocabulary and its 128 additional tokens.
    # The tower has 23 of CLIP ViT-L/14-336's 24 layers.
    "full": MolmoeScale(
        crop_patches=24,
        margin_patches=4,
        vision_width=1024,
        vision_mlp_width=4096,
        vision_layers=23,
        vision_heads=16,
        text_width=2048,
        text_heads=16,
        expert_width=1024,
        n_experts=64,
        vocabulary=50304 + 128,
        dtype="bfloat16",
    ),
}
