"""Architectures beyond the promised ones: what each changes in a recipe that exists, or adds."""

from dataclasses import replace

from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo import pixels, prompts
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import (
    BLIP_2,
    INTERNVL,
    LLAVA,
    MROPE,
    N_CROPS,
    QWEN2_VL,
    QWEN3_VL,
    every_patch_and_class,
    mrope,
)
from tests.zoo.shrink import IMAGE_SIZE, TEXT_WIDTH, VISION_WIDTH
from tests.zoo.specimen import Paths, Recipe


def overview_tiles_and_newlines(config: PreTrainedConfig) -> int:
    """Return the overview's patches and those of two by two tiles, each row with its newline."""
    return N_PATCHES + 2 * SIDE * (2 * SIDE + 1)


def root_merged_patches(config: PreTrainedConfig) -> int:
    """Return the number of patches where the root says how many become one."""
    return int(N_PATCHES // config.spatial_merge_size**2)


def downsampled_crops(config: PreTrainedConfig) -> int:
    """Return the number of patches of all crops after `downsample_factor` squared became one."""
    return int(N_CROPS * N_PATCHES // config.downsample_factor**2)


_DOWNSAMPLED = replace(
    LLAVA, make_pixels=pixels.crops(N_CROPS), count_vision_tokens=downsampled_crops
)
TILED = replace(
    LLAVA,
    make_pixels=pixels.tiled_square,
    count_vision_tokens=overview_tiles_and_newlines,
    overrides={"image_grid_pinpoints": [[2 * IMAGE_SIZE, 2 * IMAGE_SIZE]]},
)
PIXTRAL = replace(LLAVA, make_pixels=pixels.sized_square, count_vision_tokens=root_merged_patches)
WINDOWS = {
    "vision_config.fullatt_block_indexes": [1],
    # A window is one merged patch wide: the image has two by two of them.
    "vision_config.window_size": IMAGE_SIZE // 2,
}
GLM4V = replace(QWEN2_VL, overrides={"text_config.rope_parameters": MROPE})
# Half of a head turns: 4 frequencies to share.
_PARTLY_ROTARY = {"text_config.rope_parameters": mrope([2, 1, 1], partial_rotary_factor=0.5)}
GOT_OCR2 = replace(
    LLAVA,
    # Two convolutions halve the image's side twice more.
    count_vision_tokens=lambda config: N_PATCHES // 16,
    overrides={
        "vision_config.global_attn_indexes": [1],
        "vision_config.window_size": 2,
        "vision_config.mlp_dim": 2 * VISION_WIDTH,
        "vision_config.output_channels": VISION_WIDTH,
    },
)
_IDEFICS2 = Recipe(
    make_pixels=pixels.batched_crops(N_CROPS),
    make_prompt=prompts.placeholders,
    count_vision_tokens=lambda config: N_CROPS * config.perceiver_config.resampler_n_latents,
    overrides={"perceiver_config.resampler_n_latents": 4},
    paths=Paths(
        vision="model.vision_model",
        projector="model.connector",
        blocks="model.text_model.layers",
    ),
)
_LLAMA4 = Recipe(
    make_pixels=pixels.crops(N_CROPS),
    make_prompt=prompts.placeholders,
    count_vision_tokens=lambda config: int(
        N_CROPS * N_PATCHES * config.vision_config.pixel_shuffle_ratio**2
    ),
    overrides={
        # Shuffling makes four patches one, four times as wide.
        "vision_config.intermediate_size": 4 * VISION_WIDTH,
        "vision_config.vision_output_dim": TEXT_WIDTH,
        "vision_config.projector_input_dim": TEXT_WIDTH,
        "vision_config.projector_output_dim": TEXT_WIDTH,
        "text_config.intermediate_size_mlp": 2 * TEXT_WIDTH,
    },
    # The tower runs before the loop, its projector inside the first forward.
    paths=Paths(
        vision="vision_model",
        projector="multi_modal_projector",
        blocks="language_model.model.layers",
    ),
    projects_in_forward=True,
)
VISION_ENCODER_DECODER = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.nothing,
    count_vision_tokens=every_patch_and_class,
    is_placeholder=False,
    overrides={
        # As wide as the decoder, like the real ones: a projector would run in every step.
        "encoder.hidden_size": TEXT_WIDTH,
        "encoder.intermediate_size": 2 * TEXT_WIDTH,
    },
    paths=Paths(vision="encoder", projector=None, blocks="decoder.bert.encoder.layer"),
    takes_text_alone=False,
    weight_gain=0.7,
)
_KOSMOS_2 = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.masked_placeholders,
    count_vision_tokens=lambda config: config.latent_query_num,
    overrides={"latent_query_num": 4},
    # Its generate() encodes the image itself, and then calls the text model's generate().
    paths=Paths(
        vision="vision_model",
        projector="image_to_text_projection",
        blocks="text_model.model.layers",
        step="text_model",
    ),
    takes_text_alone=False,
)
_IDEFICS = Recipe(
    make_pixels=pixels.listed_square,
    make_prompt=prompts.image_mask,
    count_vision_tokens=every_patch_and_class,
    is_placeholder=False,
    # Its gated cross-attention blocks are a list of their own, called between these.
    paths=Paths(vision="model.vision_model", projector=None, blocks="model.layers"),
    vision_runs="inside forward",
    takes_text_alone=False,
)

FURTHER: dict[str, Recipe] = {
    "vipllava": replace(LLAVA, overrides={"vision_feature_layer": [-1, -2]}),
    "llava_next": TILED,
    # 88 vision tokens drown the words: larger weights attend to fewer of them.
    "llava_onevision": replace(TILED, weight_gain=2.0),
    "aya_vision": _DOWNSAMPLED,
    "cohere2_vision": replace(
        _DOWNSAMPLED, overrides={"alignment_intermediate_size": 2 * TEXT_WIDTH}
    ),
    "deepseek_vl": replace(
        LLAVA, paths=Paths(vision="model.vision_model", projector="model.aligner")
    ),
    "got_ocr2": GOT_OCR2,
    "qianfan_ocr": INTERNVL,
    "mistral3": PIXTRAL,
    "lighton_ocr": replace(
        PIXTRAL, paths=Paths(vision="model.vision_encoder", projector="model.vision_projection")
    ),
    "idefics2": _IDEFICS2,
    "qwen2_5_vl": replace(QWEN2_VL, overrides={"text_config.rope_parameters": MROPE, **WINDOWS}),
    "exaone4_5": replace(QWEN2_VL, make_prompt=prompts.placeholders, overrides=WINDOWS),
    "qwen3_vl_moe": QWEN3_VL,
    "glm4v": GLM4V,
    "glm4v_moe": replace(QWEN2_VL, overrides=_PARTLY_ROTARY),
    "glm_ocr": replace(QWEN2_VL, overrides=_PARTLY_ROTARY),
    "llama4": _LLAMA4,
    "vision-encoder-decoder": VISION_ENCODER_DECODER,
    "kosmos-2": _KOSMOS_2,
    "idefics": _IDEFICS,
    "instructblip": replace(BLIP_2, make_prompt=prompts.queried_placeholders),
}
