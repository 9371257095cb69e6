"""Architectures made for reading documents: many pixels, few tokens, newlines between rows."""

from dataclasses import replace

from tests.zoo import pixels
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import LLAVA, MROPE, QWEN2_VL
from tests.zoo.shrink import DEPTH, IMAGE_SIZE, PATCH_SIZE, TEXT_WIDTH, VISION_WIDTH
from tests.zoo.specimen import Paths, Recipe

_N_TILES = 2
_SAM = {
    "vision_config.sam_config.image_size": 2 * IMAGE_SIZE,
    "vision_config.sam_config.patch_size": PATCH_SIZE,
    "vision_config.sam_config.global_attn_indexes": [1],
    "vision_config.sam_config.window_size": 2,
    "vision_config.sam_config.mlp_dim": 2 * VISION_WIDTH,
    "vision_config.sam_config.output_channels": VISION_WIDTH,
    "vision_config.sam_config.downsample_channels": [VISION_WIDTH, VISION_WIDTH],
}
_DEEPSEEK_OCR2 = replace(
    LLAVA,
    make_pixels=pixels.wide_square,
    # As many queries as its sources say, and a separator.
    count_vision_tokens=lambda config: 144 + 1,
    overrides={
        **_SAM,
        "text_config.num_experts_per_tok": 2,
        "text_config.n_group": 1,
        "text_config.topk_group": 1,
        "text_config.mlp_layer_types": ["dense", *["sparse"] * (DEPTH - 1)],
    },
)
_UNLIMITED_OCR = replace(
    LLAVA,
    make_pixels=pixels.wide_square,
    # Two convolutions leave two by two patches; each row has a newline, and the image a separator.
    count_vision_tokens=lambda config: 2 * (2 + 1) + 1,
    overrides=_SAM,
)
_HUNYUAN_VL = replace(
    QWEN2_VL,
    # Each row of merged patches has a newline, and the image a start and an end.
    count_vision_tokens=lambda config: SIDE // 2 * (SIDE // 2 + 1) + 2,
    overrides={
        "text_config.head_dim": TEXT_WIDTH // 4,
        "text_config.rope_parameters": MROPE,
        "vision_config.max_image_size": IMAGE_SIZE,
    },
    paths=Paths(projector=None),
)
_GRANITE_DOCLING = replace(
    LLAVA,
    make_pixels=pixels.masked_tiles(_N_TILES),
    count_vision_tokens=lambda config: _N_TILES * N_PATCHES // config.vision_config.scale_factor**2,
    overrides={
        "vision_config.scale_factor": 2,
        "vision_config.deepstack_visual_indexes": [0, 1],
        # Its multipliers are made for a width of its own.
        "text_config.embedding_multiplier": 1.0,
        "text_config.attention_multiplier": (TEXT_WIDTH // 4) ** -0.5,
        "text_config.residual_multiplier": 1.0,
        "text_config.logits_scaling": 1.0,
    },
    paths=Paths(vision="model.vision_model", projector=None, blocks="model.text_model.layers"),
)

READERS: dict[str, Recipe] = {
    "deepseek_ocr2": _DEEPSEEK_OCR2,
    "unlimited_ocr": _UNLIMITED_OCR,
    "hunyuan_vl": _HUNYUAN_VL,
    "granite_docling": _GRANITE_DOCLING,
}
