"""What one image becomes: kinds of pixel inputs, shared by many architectures.

B images, C = 3 channels, H and W pixels, P patches an image, T tiles.
"""

from collections.abc import Callable

import torch
from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo.prompts import N_TEXT_TOKENS
from tests.zoo.shrink import IMAGE_SIZE, PATCH_SIZE
from tests.zoo.specimen import Inputs

Pixels = Callable[[PreTrainedConfig, torch.Generator], Inputs]

SIDE = IMAGE_SIZE // PATCH_SIZE
N_PATCHES = SIDE * SIDE


def square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image as it is."""
    return {"pixel_values": _noise(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)}


def sized_square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image and its size, for towers that take any size and want to be told."""
    return square(config, generator) | {"image_sizes": torch.tensor([[IMAGE_SIZE, IMAGE_SIZE]])}


def listed_square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image in a list of one: (B, 1, C, H, W)."""
    return {"pixel_values": _noise(1, 1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)}


def tiled_square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return an image twice as wide and high as a tile: its overview, then its four tiles."""
    shape = (1, 5, 3, IMAGE_SIZE, IMAGE_SIZE)  # (B, 1 + T, C, H, W)
    return {
        "pixel_values": _noise(*shape, generator=generator),
        "image_sizes": torch.tensor([[2 * IMAGE_SIZE, 2 * IMAGE_SIZE]]),
    }


def crops(n_crops: int) -> Pixels:
    """Return a kind that stacks the crops of an image as if they were images: (n, C, H, W)."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        shape = (n_crops, 3, IMAGE_SIZE, IMAGE_SIZE)
        return {"pixel_values": _noise(*shape, generator=generator)}

    return make


def batched_crops(n_crops: int) -> Pixels:
    """Return a kind with the crops of an image in a dimension of their own: (B, n, C, H, W)."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        shape = (1, n_crops, 3, IMAGE_SIZE, IMAGE_SIZE)
        return {
            "pixel_values": _noise(*shape, generator=generator),
            "pixel_attention_mask": torch.ones(1, n_crops, IMAGE_SIZE, IMAGE_SIZE).long(),
        }

    return make


def patch_grid(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches of one image and their grid (time, height, width)."""
    vision = config.vision_config
    n_values = 3 * vision.temporal_patch_size * vision.patch_size**2
    return {
        "pixel_values": _noise(N_PATCHES, n_values, generator=generator),
        "image_grid_thw": torch.tensor([[1, SIDE, SIDE]]),
    }


def pooled_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one crop of flattened patches, pooled two by two, with the grid that results."""
    corners = torch.arange(N_PATCHES).reshape(SIDE, SIDE)
    pooling = corners.unfold(0, 2, 2).unfold(1, 2, 2).reshape(-1, 4)  # (P / 4, 4)
    n_values = 3 * config.vision_config.patch_size**2
    return {
        "pixel_values": _noise(1, N_PATCHES, n_values, generator=generator),
        "image_token_pooling": pooling,
        "image_grids": torch.tensor([[0, 0, SIDE // 2, SIDE // 2]]),
        "image_num_crops": torch.tensor([1]),
    }


def aspect_ratio_tiles(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image cut into as many tiles as there may be, so that none of them is padding."""
    vision = config.vision_config
    n_tiles = vision.max_num_tiles
    ratio = next(r for r in vision.supported_aspect_ratios if r[0] * r[1] == n_tiles)
    shape = (1, 1, n_tiles, 3, IMAGE_SIZE, IMAGE_SIZE)  # (B, images, T, C, H, W)
    return {
        "pixel_values": _noise(*shape, generator=generator),
        "aspect_ratio_ids": torch.tensor([[vision.supported_aspect_ratios.index(ratio) + 1]]),
        "aspect_ratio_mask": torch.ones(1, 1, n_tiles).long(),
        "cross_attention_mask": torch.ones(1, N_TEXT_TOKENS + 1, 1, n_tiles).long(),
    }


def _noise(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=generator)
