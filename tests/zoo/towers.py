"""Architectures of a tower, a projector and a decoder, one after the other, after LLaVA."""

from dataclasses import replace

from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo import pixels, prompts
from tests.zoo.further import GOT_OCR2, PIXTRAL, TILED
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import BLIP_2, GEMMA3, LLAVA
from tests.zoo.shrink import PATCH_SIZE, TEXT_WIDTH, VISION_WIDTH, VOCABULARY
from tests.zoo.specimen import Paths, Recipe

_N_QUERIES = 4
_SAM = {
    "global_attn_indexes": [1],
    "window_size": 2,
    "mlp_dim": 2 * VISION_WIDTH,
    "output_channels": VISION_WIDTH,
    "num_pos_feats": VISION_WIDTH // 2,
}


def packed_patches_in_four(config: PreTrainedConfig) -> int:
    """Return the number of packed patches where two by two become one."""
    return pixels.N_PACKED_PATCHES // 4


def packed_patches_in_sixteen(config: PreTrainedConfig) -> int:
    """Return the number of packed patches where two by two become one, and then again."""
    return pixels.N_PACKED_PATCHES // 16


_ARIA = replace(
    LLAVA,
    count_vision_tokens=lambda config: _N_QUERIES,
    overrides={"projector_patch_to_query_dict": {N_PATCHES: _N_QUERIES}},
)
_DEEPSEEK_VL_HYBRID = replace(
    LLAVA,
    make_pixels=pixels.high_resolution_square,
    # Transformers 4.57 hands on what the last block became after the neck: the first is taken.
    overrides={f"high_res_vision_config.{key}": value for key, value in _SAM.items()}
    | {"high_res_vision_config.global_attn_indexes": [0]},
    paths=Paths(vision="model.vision_model", projector="model.aligner"),
)
_LFM2_VL = replace(
    LLAVA,
    make_pixels=pixels.shaped_patches,
    count_vision_tokens=lambda config: N_PATCHES // config.downsample_factor**2,
    overrides={
        "vision_config.num_patches": N_PATCHES,
        "text_config.layer_types": ["conv", "full_attention"] * 2,
    },
)
_VIDEO_LLAVA = replace(
    LLAVA,
    make_pixels=pixels.named_square("pixel_values_images"),
    paths=Paths(vision="model.image_tower"),
)
_OVIS2 = replace(
    LLAVA,
    overrides={
        "visual_indicator_token_ids": [VOCABULARY - 11 - index for index in range(5)],
    },
    # Its table of visual embeddings runs twice: for the image, and for what stands around it.
    paths=Paths(projector=None),
)
_JANUS = replace(
    LLAVA,
    # The codec that draws images is no part of reading them.
    overrides={
        "vq_config.base_channels": 32,
        "vq_config.channel_multiplier": [1, 1],
        "vq_config.num_res_blocks": 1,
        "vq_config.latent_channels": 32,
        "vq_config.num_embeddings": 16,
        "vq_config.image_token_embed_dim": VISION_WIDTH,
    },
    paths=Paths(vision="model.vision_model", projector="model.aligner"),
)
_MINICPM = replace(
    LLAVA,
    make_pixels=pixels.packed_patches,
    count_vision_tokens=packed_patches_in_sixteen,
    overrides={
        "vision_config.insert_layer_id": 0,
        "text_config.rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 1, 1],
        },
    },
    paths=Paths(projector="model.merger"),
)
_STEP3P7 = replace(
    LLAVA,
    make_pixels=pixels.wide_square,
    # Two convolutions halve the image's side twice more.
    count_vision_tokens=lambda config: (2 * SIDE // 4) ** 2,
    overrides={
        "vision_config.image_size": 2 * SIDE * PATCH_SIZE,
        "text_config.layer_types": ["full_attention", "sliding_attention"] * 2,
        "text_config.rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("full_attention", "sliding_attention")
        },
        "text_config.sliding_window": 256,
        "text_config.num_sliding_attention_heads": 4,
    },
    paths=Paths(vision="model.vision_model"),
)
_FUYU = replace(
    LLAVA,
    make_pixels=pixels.named_flat_patches("pixel_values", "image_patches"),
    overrides={"patch_size": PATCH_SIZE},
    # One linear layer is all there is between pixels and decoder.
    paths=Paths(vision="model.vision_embed_tokens", projector=None),
)
_INSTRUCTBLIPVIDEO = replace(
    BLIP_2,
    make_pixels=pixels.clip,
    make_prompt=prompts.queried_placeholders,
    count_vision_tokens=lambda config: pixels.N_FRAMES * config.num_query_tokens,
    overrides={"num_query_tokens": 4, "video_token_index": VOCABULARY - 1},
)
_GRANITE4_VISION = replace(
    TILED,
    # Two by two become one, before the newlines are set.
    count_vision_tokens=lambda config: (SIDE // 2) ** 2 + SIDE * (SIDE + 1),
    overrides={
        **TILED.overrides,
        "vision_config.hidden_size": TEXT_WIDTH,
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[0, 0], [1, 1]],
        "spatial_target_layers": [2, 3],
    },
    paths=Paths(projector="model.layerwise_projectors.0"),
)
# A tower of timm is none of transformers' own: one of its own stands in for it.
_PERCEPTION_LM = replace(
    LLAVA,
    make_pixels=pixels.listed_square,
    sections={"vision_config": "clip_vision_model"},
    overrides={"vision_config.model_args": {"embed_dim": VISION_WIDTH}},
)
_FAST_VLM = replace(
    LLAVA,
    sections={"vision_config": "resnet"},
    overrides={
        "vision_config.embedding_size": VISION_WIDTH,
        "vision_config.hidden_sizes": [VISION_WIDTH, VISION_WIDTH],
        "vision_config.hidden_size": VISION_WIDTH,
        "vision_config.depths": [1, 1],
        "vision_config.out_features": ["stage2"],
        "vision_config.out_indices": [2],
        "vision_config.layer_type": "basic",
    },
)

TOWERS: dict[str, Recipe] = {
    "aria": _ARIA,
    "deepseek_vl_hybrid": _DEEPSEEK_VL_HYBRID,
    "lfm2_vl": _LFM2_VL,
    "llava_next_video": TILED,
    "video_llava": _VIDEO_LLAVA,
    "ovis2": _OVIS2,
    "janus": _JANUS,
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": _MINICPM,
    "minicpm_ocr": replace(_MINICPM, count_vision_tokens=packed_patches_in_four),
    # Low-rank attention has as many keys as queries.
    "mistral_large4": replace(PIXTRAL, overrides={"text_config.num_key_value_heads": 4}),
    "step3p7": _STEP3P7,
    "shieldgemma2": GEMMA3,
    "pp_chart2table": GOT_OCR2,
    "fuyu": _FUYU,
    "instructblipvideo": _INSTRUCTBLIPVIDEO,
    "granite4_vision": _GRANITE4_VISION,
    "perception_lm": _PERCEPTION_LM,
    "fast_vlm": _FAST_VLM,
}
