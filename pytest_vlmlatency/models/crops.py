"""What a MolmoE-shaped model eats: an overview of each image and overlapping crops of it.

The grid follows the image's orientation, its size follows the tier, so the number of tokens
depends on the tier alone. Owns pictures and prompts; the model joins the crops again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image, ImageOps

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.processors import (
    IMAGE,
    MOLMOE_IMAGE,
    build_tokenizer,
    chat_template,
    pillow_processor,
)
from pytest_vlmlatency.models.shapes import TIERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.models.molmoe import MolmoeConfig

PADDING = (123, 117, 104)  # the mean colour that CLIP's image processor subtracts


class MolmoeProcessor:
    """Prepare prompts and images for a model of this configuration, at the tier it has then.

    Keep the model's own `config`, not a copy: its tier is read at each call.
    """

    def __init__(self, config: MolmoeConfig) -> None:
        self.config = config
        self.tokenizer = build_tokenizer()
        self.tokenizer.chat_template = chat_template(IMAGE)
        side = config.crop_pixels
        self.image_processor = pillow_processor("clip", "CLIPImageProcessor")(
            size={"height": side, "width": side}, do_center_crop=False
        )

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool,
        tokenize: bool = False,
    ) -> str:
        """Return the conversation as text, with a mark for each image."""
        text = self.tokenizer.apply_chat_template(
            cast("list[dict[str, str]]", list(conversation)),
            add_generation_prompt=add_generation_prompt,
            tokenize=tokenize,
        )
        assert isinstance(text, str), "an untokenized template is text"
        return text

    def __call__(
        self,
        *,
        images: Image.Image | Sequence[Image.Image] | None = None,
        text: str | Sequence[str],
        return_tensors: str = "pt",
    ) -> dict[str, torch.Tensor]:
        """Return input ids and mask, with images also `pixel_values` and `crop_grids`."""
        pictures = [images] if isinstance(images, Image.Image) else images or ()
        prompt = "".join(text)
        if prompt.count(IMAGE) != len(pictures):
            raise UsageProblem(
                f"the prompt marks {prompt.count(IMAGE)} images with {IMAGE} and "
                f"{len(pictures)} were given"
            )
        grids = [self.grid(picture) for picture in pictures]
        for grid in grids:
            prompt = prompt.replace(IMAGE, self.image_text(*grid), 1)
        encoded = dict(self.tokenizer([prompt], return_tensors=return_tensors))
        if pictures:
            crops = [self._crops(*each) for each in zip(pictures, grids, strict=True)]
            encoded["pixel_values"] = torch.stack(crops)
            encoded["crop_grids"] = torch.tensor(grids)
        return encoded

    def grid(self, image: Image.Image) -> tuple[int, int]:
        """Return the rows and columns of crops for an image at the current tier."""
        shorter, longer = TIERS[self.config.tier]
        return (shorter, longer) if image.width >= image.height else (longer, shorter)

    def image_text(self, rows: int, columns: int) -> str:
        """Return the tokens of one image: the overview's, then the grid's, row by row."""
        start, patch, end_of_row, end = MOLMOE_IMAGE
        side = self._patches_along(1) // 2
        across, down = self._patches_along(columns) // 2, self._patches_along(rows) // 2
        overview = (patch * side + end_of_row) * side
        return start + overview + end + start + (patch * across + end_of_row) * down + end

    def _patches_along(self, n_crops: int) -> int:
        """Return the patches along n crops, each overlap counted once."""
        margins = 2 * self.config.margin_patches
        window = self.config.crop_pixels // self.config.patch_pixels - margins
        return n_crops * window + margins

    def _crops(self, image: Image.Image, grid: tuple[int, int]) -> torch.Tensor:
        side, patch = self.config.crop_pixels, self.config.patch_pixels
        height, width = (self._patches_along(count) * patch for count in grid)
        whole = ImageOps.pad(image.convert("RGB"), (width, height), color=PADDING)
        step = side - 2 * self.config.margin_patches * patch
        crops = [ImageOps.pad(image.convert("RGB"), (side, side), color=PADDING)]
        crops += [
            whole.crop((column * step, row * step, column * step + side, row * step + side))
            for row in range(grid[0])
            for column in range(grid[1])
        ]
        pixels = self.image_processor(crops, return_tensors="np")["pixel_values"]
        return torch.from_numpy(np.stack(pixels))  # -> (C, channels, height, width)
