"""What one image becomes: kinds of pixel inputs, shared by many architectures.

B images, C = 3 channels, H and W pixels, P patches an image, T tiles.
"""

from collections.abc import Callable

import torch
from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo.earlier import first_taken
from tests.zoo.prompts import N_TEXT_TOKENS
from tests.zoo.shrink import IMAGE_SIZE, PATCH_SIZE
from tests.zoo.specimen import Inputs

Pixels = Callable[[PreTrainedConfig, torch.Generator], Inputs]

SIDE = IMAGE_SIZE // PATCH_SIZE
N_PATCHES = SIDE * SIDE
N_FRAMES = 4
N_PACKED_PATCHES = (2 * SIDE) ** 2


def square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image as it is."""
    return {"pixel_values": _noise(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)}


def named_square(name: str) -> Pixels:
    """Return a kind with one image as it is, under another name."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        return {name: square(config, generator)["pixel_values"]}

    return make


def wide_square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image of twice the usual side."""
    return {"pixel_values": _noise(1, 3, 2 * IMAGE_SIZE, 2 * IMAGE_SIZE, generator=generator)}


def high_resolution_square(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return one image for each of two towers."""
    second = square(config, generator)["pixel_values"]
    return square(config, generator) | {"high_res_pixel_values": second}


def clip(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return the frames of one video: (B, frames, C, H, W)."""
    shape = (1, N_FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    return {"pixel_values": _noise(*shape, generator=generator)}


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


def gridded_crops(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return an image's overview and two crops side by side, with their grid: rows and columns."""
    shape = (1, 3, 3, IMAGE_SIZE, IMAGE_SIZE)  # (B, 1 + crops, C, H, W)
    return {
        "pixel_values": _noise(*shape, generator=generator),
        "crop_grids": torch.tensor([[1, 2]]),
    }


def crops_of_patches(n_crops: int) -> Pixels:
    """Return a kind with the flattened patches of each crop: (B, n, P, values)."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        shape = (1, n_crops, N_PATCHES, 3 * PATCH_SIZE**2)
        return {"images": _noise(*shape, generator=generator)}

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
    names = ("temporal_patch_size", "patch_temporal")
    n_frames = next((getattr(vision, name) for name in names if hasattr(vision, name)), 1)
    n_values = 3 * n_frames * vision.patch_size**2
    return {"pixel_values": _noise(N_PATCHES, n_values, generator=generator)} | _grid()


def flat_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches of one image, without a word about where they lie."""
    return {"pixel_values": _noise(1, N_PATCHES, 3 * PATCH_SIZE**2, generator=generator)}


def named_flat_patches(*names: str) -> Pixels:
    """Return a kind with flattened patches, under the first name that the model takes."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        name = first_taken(config.model_type, *names)
        return {name: flat_patches(config, generator)["pixel_values"]}

    return make


def placed_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches that begin with their row and column, counted from 1."""
    places = 1 + torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE))  # (P, 2)
    values = flat_patches(config, generator)["pixel_values"]
    return {"flattened_patches": torch.cat([places[None].float(), values], dim=-1)}


def shaped_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches of one image, its height and width in patches, and their mask."""
    return flat_patches(config, generator) | {
        "spatial_shapes": torch.tensor([[SIDE, SIDE]]),
        "pixel_attention_mask": torch.ones(1, N_PATCHES).long(),
    }


def packed_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return patches of an image of twice the usual side, in one row, and its sides in patches."""
    shape = (1, 3, PATCH_SIZE, N_PACKED_PATCHES * PATCH_SIZE)
    return {
        "pixel_values": _noise(*shape, generator=generator),
        "target_sizes": torch.tensor([[2 * SIDE, 2 * SIDE]]),
    }


def square_patch_grid(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return the patches of one image, each still a square, and their grid: (P, C, H, W)."""
    shape = (N_PATCHES, 3, PATCH_SIZE, PATCH_SIZE)
    return {"pixel_values": _noise(*shape, generator=generator)} | _grid()


def merging_patch_grid(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches with their grid, and that two by two of them become one."""
    return patch_grid(config, generator) | {"image_merge_sizes": torch.tensor([2])}


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


def positioned_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches of one image, and the column and row of each."""
    rows, columns = torch.arange(N_PATCHES) // SIDE, torch.arange(N_PATCHES) % SIDE
    return flat_patches(config, generator) | {
        "image_position_ids": torch.stack([columns, rows], dim=-1)[None]  # (1, P, 2)
    }


def timed_patches(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return patches of one image, each twice in time, channels last: (P, time, H, W, C)."""
    shape = (N_PATCHES, 2, PATCH_SIZE, PATCH_SIZE, 3)
    return {"pixel_values": _noise(*shape, generator=generator)}


def merged_patch_grid(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return squares of two by two patches, channels last, and the grid of these squares."""
    shape = (N_PATCHES, 2 * PATCH_SIZE, 2 * PATCH_SIZE, 3)
    return {"pixel_values": _noise(*shape, generator=generator)} | _grid()


def tall_patch_grid(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
    """Return flattened patches of one image and their grid without time: (height, width)."""
    return {
        "pixel_values": flat_patches(config, generator)["pixel_values"][0],
        "image_grid_hw": torch.tensor([[SIDE, SIDE]]),
    }


def masked_tiles(n_tiles: int) -> Pixels:
    """Return a kind with the tiles of an image, and which of them are no padding."""

    def make(config: PreTrainedConfig, generator: torch.Generator) -> Inputs:
        shape = (1, n_tiles, 3, IMAGE_SIZE, IMAGE_SIZE)
        return {
            "pixel_values": _noise(*shape, generator=generator),
            "pixel_attention_mask": torch.ones(1, n_tiles).bool(),
        }

    return make


def _grid() -> Inputs:
    return {"image_grid_thw": torch.tensor([[1, SIDE, SIDE]])}


def _noise(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=generator)
