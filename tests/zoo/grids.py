"""Architectures whose tower takes flattened patches and the grid they lie on, after Qwen-VL's."""

from dataclasses import replace

from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo import pixels, prompts
from tests.zoo.further import GLM4V, WINDOWS
from tests.zoo.pixels import N_PATCHES
from tests.zoo.recipes import MROPE, QWEN2_VL, QWEN3_VL, mrope
from tests.zoo.shrink import TEXT_WIDTH, VISION_WIDTH, VOCABULARY
from tests.zoo.specimen import Paths, Recipe

# Its default configuration names no borders, which its positions are counted by.
_BORDERS = {"vision_start_token_id": VOCABULARY - 11, "vision_end_token_id": VOCABULARY - 12}


def four_in_one(config: PreTrainedConfig) -> int:
    """Return the number of patches after two by two of them became one."""
    return N_PATCHES // 4


# A quarter of a head turns in the real one: here a half, 4 frequencies.
_PARTLY_ROTARY = mrope([2, 1, 1], partial_rotary_factor=0.5)
_QWEN3_5 = replace(QWEN2_VL, overrides={"text_config.rope_parameters": _PARTLY_ROTARY})
_COSMOS3_EDGE = replace(
    QWEN2_VL,
    overrides={"text_config.rope_parameters": MROPE},
    paths=Paths(vision="model.visual", projector="model.projector"),
)
_PROJECTED = replace(QWEN2_VL, make_prompt=prompts.placeholders)

GRIDS: dict[str, Recipe] = {
    "glm46v": GLM4V,
    "glmga": GLM4V,
    "qwen2_5_omni_thinker": replace(
        QWEN2_VL,
        make_prompt=prompts.bordered_placeholders,
        overrides={"text_config.rope_parameters": MROPE, **WINDOWS, **_BORDERS},
    ),
    "qwen3_omni_moe_thinker": replace(
        QWEN3_VL,
        make_prompt=prompts.bordered_placeholders,
        overrides={
            **QWEN3_VL.overrides,
            **_BORDERS,
            "audio_config.downsample_hidden_size": 8,
        },
    ),
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "cosmos3_omni": QWEN3_VL,
    "cosmos3_edge": _COSMOS3_EDGE,
    "hyperclovax_vision_v2": replace(
        _PROJECTED,
        overrides=WINDOWS,
        paths=Paths(vision="model.vision_model", projector="model.projector"),
    ),
    "paddleocr_vl": replace(
        QWEN2_VL,
        make_pixels=pixels.square_patch_grid,
        overrides={"text_config.rope_parameters": MROPE},
        paths=Paths(vision="model.visual", projector="model.projector"),
    ),
    "video_llama_3": replace(
        _PROJECTED,
        make_pixels=pixels.merging_patch_grid,
        count_vision_tokens=four_in_one,
        overrides={},
        paths=Paths(vision="model.vision_model", projector="model.projector"),
    ),
    "lfm3_vl": replace(_PROJECTED, overrides={}, paths=Paths()),
    "kimi_k25": replace(
        _PROJECTED,
        make_pixels=pixels.square_patch_grid,
        count_vision_tokens=four_in_one,
        overrides={
            "projection_hidden_size": VISION_WIDTH,
            # Low-rank attention has as many keys as queries.
            "text_config.num_key_value_heads": 4,
        },
        paths=Paths(projector="model.mm_projector"),
    ),
    "minimax_m3_vl": replace(
        _PROJECTED,
        overrides={
            "text_config.dense_intermediate_size": 2 * TEXT_WIDTH,
            "text_config.shared_intermediate_size": TEXT_WIDTH,
        },
        paths=Paths(),
    ),
    "muse_glimmer": replace(
        _PROJECTED,
        count_vision_tokens=four_in_one,
        overrides={"out_hidden_size": 4 * VISION_WIDTH},
        paths=Paths(projector="model.vision_adapter"),
    ),
}
