from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from PIL import Image

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.crops import MolmoeProcessor
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.molmoe import MolmoeConfig, molmoe_config
from pytest_vlmlatency.models.shapes import MOLMOE_SCALES


def a_config(scale: str, tier: str) -> MolmoeConfig:
    config = deepcopy(molmoe_config(MOLMOE_SCALES[scale]))
    config.tier = tier
    return config


@pytest.mark.parametrize(
    ("scale", "tier", "n_crops", "n_tokens"),
    [
        ("full", "low", 3, 384),
        ("full", "medium", 7, 704),
        ("full", "high", 13, 1152),
        ("nano", "low", 3, 40),
        ("nano", "medium", 7, 64),
        ("nano", "high", 13, 96),
        ("tiny", "high", 13, 288),
        ("small", "high", 13, 384),
    ],
)
def test_a_tier_has_its_number_of_crops_and_tokens(
    scale: str, tier: str, n_crops: int, n_tokens: int, cat: Image.Image
) -> None:
    config = a_config(scale, tier)

    inputs = MolmoeProcessor(config)(images=[cat], text=["<image>"])

    side = config.crop_pixels
    assert inputs["pixel_values"].shape == (1, n_crops, 3, side, side)
    assert (inputs["input_ids"] == config.image_token_id).sum() == n_tokens


def test_four_crops_at_full_scale_are_544_tokens() -> None:
    text = MolmoeProcessor(a_config("full", "high")).image_text(2, 2)

    assert text.count("<im_patch>") == 544


def test_the_grid_follows_the_orientation(cat: Image.Image) -> None:
    processor = MolmoeProcessor(a_config("nano", "medium"))

    assert processor.grid(cat) == (2, 3)
    assert processor.grid(cat.transpose(Image.Transpose.ROTATE_90)) == (3, 2)


def test_neighbouring_crops_share_two_margins() -> None:
    config = a_config("nano", "low")

    crops = MolmoeProcessor(config)(images=[photograph("rocket")], text=["<image>"])["pixel_values"]

    shared = 2 * config.margin_patches * config.patch_pixels
    _, left, right = crops[0]
    assert torch.equal(left[:, :, -shared:], right[:, :, :shared])
    assert not torch.equal(left, right)


def test_the_tier_is_read_when_inputs_are_prepared(cat: Image.Image) -> None:
    config = a_config("nano", "low")
    processor = MolmoeProcessor(config)
    config.tier = "high"

    assert processor(images=[cat], text=["<image>"])["pixel_values"].shape[1] == 13


def test_each_row_of_tokens_ends_with_its_mark() -> None:
    text = MolmoeProcessor(a_config("nano", "low")).image_text(1, 2)

    overview = "<im_start>" + ("<im_patch>" * 4 + "<im_col>") * 4 + "<im_end>"
    grid = "<im_start>" + ("<im_patch>" * 6 + "<im_col>") * 4 + "<im_end>"
    assert text == overview + grid


@pytest.mark.parametrize(("text", "n_marks"), [("no mark", 0), ("<image><image>", 2)])
def test_marks_and_images_must_agree(text: str, n_marks: int, cat: Image.Image) -> None:
    with pytest.raises(UsageProblem, match=f"the prompt marks {n_marks} images with <image> and 1"):
        MolmoeProcessor(a_config("nano", "low"))(images=[cat], text=[text])
