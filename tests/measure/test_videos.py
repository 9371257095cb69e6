"""Videos are vision: their tower's time, and their tokens as the decoder sees them."""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.zoo import Inputs, Specimen, available, block_modules, build, vision_module
from tests.zoo.earlier import taken

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

in_the_mapping = pytest.mark.skipif(
    "video_llava" not in available(), reason="this transformers' mapping does not have it"
)
N_FRAMES = 2
VIDEO_TYPE = 2


def measure(specimen: Specimen, clock: FakeClock, inputs: Inputs) -> Case:
    """Measure with 60 ms in the tower and 3 ms in a block."""
    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(60)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(3)),
    ):
        return measure_generate(specimen.generate, kwargs=inputs, rounds=1, clock=clock)


def config_of(specimen: Specimen) -> "PreTrainedConfig":
    return cast("PreTrainedModel", specimen.model).config


def a_prompt(specimen: Specimen, n_placeholders: int) -> Inputs:
    """Return the words of a specimen's prompt around the placeholders of a video."""
    config = config_of(specimen)
    ids = specimen.inputs["input_ids"][0].tolist()
    words = [token for token in ids if token != config.image_token_id]
    row = [*words[:4], *[config.video_token_id] * n_placeholders, *words[4:]]
    prompt = torch.tensor([row])
    return {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}


def patches(specimen: Specimen, n_frames: int) -> Inputs:
    """Return a video as flattened patches and a grid."""
    n_placeholders = specimen.n_vision_tokens * n_frames
    inputs = a_prompt(specimen, n_placeholders)
    is_video = inputs["input_ids"] == config_of(specimen).video_token_id
    more = {
        "mm_token_type_ids": torch.where(is_video, VIDEO_TYPE, 0),
        "pixel_values_videos": torch.cat([specimen.inputs["pixel_values"]] * n_frames),
        "video_grid_thw": specimen.inputs["image_grid_thw"] * torch.tensor([n_frames, 1, 1]),
    }
    return taken(specimen.model, inputs | more)


def frames(specimen: Specimen, n_placeholders: int) -> Inputs:
    """Return a video as frames, each as large as the tower takes it."""
    pixels = next(value for name, value in specimen.inputs.items() if "pixel" in name)
    frame = pixels.reshape(-1, *pixels.shape[-3:])[:1]
    return {
        **a_prompt(specimen, n_placeholders),
        "pixel_values_videos": torch.cat([frame, -frame])[None],
    }


@pytest.mark.parametrize(
    ("name", "n_frames"), [("qwen2_vl", N_FRAMES), ("qwen2_5_vl", N_FRAMES), ("qwen3_vl", 1)]
)
def test_a_video_of_patches_is_vision(clock: FakeClock, name: str, n_frames: int) -> None:
    specimen = build(name)

    case = measure(specimen, clock, patches(specimen, n_frames))

    call = case.calls[0]
    assert case.labels == ("video",)
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60, 3, 7 * 3)
    assert call.n_vision_tokens == n_frames * specimen.n_vision_tokens
    assert call.n_text_tokens == specimen.n_text_tokens


@pytest.mark.parametrize(
    ("name", "tower", "n_vision_tokens"),
    [
        # Four of 16 patches are left of each frame, and there is a newline.
        ("llava_onevision", "model.vision_tower", N_FRAMES * 4 + 1),
        ("llava_next_video", "model.vision_tower", N_FRAMES * 4),
        # Every patch, and the class.
        pytest.param("video_llava", "model.video_tower", N_FRAMES * 17, marks=in_the_mapping),
    ],
)
def test_a_video_of_frames_is_vision(
    clock: FakeClock, name: str, tower: str, n_vision_tokens: int
) -> None:
    specimen = replace(build(name), vision_path=tower)

    case = measure(specimen, clock, frames(specimen, n_vision_tokens))

    call = case.calls[0]
    assert case.labels == ("video",)
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60, 3, 7 * 3)
    assert (call.n_vision_tokens, call.n_text_tokens) == (n_vision_tokens, specimen.n_text_tokens)


def test_an_image_and_a_video_in_one_prompt_are_both_vision(clock: FakeClock) -> None:
    specimen = build("qwen2_vl")
    video = patches(specimen, N_FRAMES)
    inputs = specimen.inputs | {
        name: torch.cat([specimen.inputs[name], video[name]], dim=1)
        for name in ("input_ids", "attention_mask", "mm_token_type_ids")
        if name in video
    }
    inputs |= {name: video[name] for name in ("pixel_values_videos", "video_grid_thw")}

    case = measure(specimen, clock, inputs)

    call = case.calls[0]
    assert case.labels == ("video",)
    assert (call.vision_ms, call.prefill_ms) == (2 * 60, 3)
    assert call.n_vision_tokens == (1 + N_FRAMES) * specimen.n_vision_tokens
    assert call.n_text_tokens == 2 * specimen.n_text_tokens


def test_images_of_several_sizes_are_counted_as_they_are(clock: FakeClock) -> None:
    """The second image is twice as high: it has twice as many patches."""
    specimen = build("qwen2_vl")
    ids, pixels = specimen.inputs["input_ids"], specimen.inputs["pixel_values"]
    before, image = ids[:, 3:4], ids[:, 4 : 4 + specimen.n_vision_tokens]
    prompt = torch.cat([ids, before, image, image, ids[:, -1:]], dim=1)
    inputs = {
        "input_ids": prompt,
        "attention_mask": torch.ones_like(prompt),
        "mm_token_type_ids": (prompt == image[0, 0]).long(),
        "pixel_values": torch.cat([pixels, pixels, -pixels]),
        "image_grid_thw": specimen.inputs["image_grid_thw"] * torch.tensor([[1, 1, 1], [1, 2, 1]]),
    }

    call = measure(specimen, clock, taken(specimen.model, inputs)).calls[0]

    assert (call.vision_ms, call.prefill_ms) == (60, 3)
    assert call.n_vision_tokens == 3 * specimen.n_vision_tokens
    assert call.n_text_tokens == specimen.n_text_tokens + 2
