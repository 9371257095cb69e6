"""The newest architectures: mixtures of kinds of attention, of experts and of modalities."""

from dataclasses import replace

from tests.zoo import pixels, prompts
from tests.zoo.grids import four_in_one
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import LLAVA, MROPE, QWEN2_VL, QWEN3_VL, every_patch, mrope
from tests.zoo.shrink import PATCH_SIZE, TEXT_WIDTH, VISION_WIDTH
from tests.zoo.specimen import Paths, Recipe

_GRID = replace(QWEN2_VL, make_prompt=prompts.placeholders, overrides={})
_GEMMA4 = replace(
    LLAVA,
    sections={"vision_config": "gemma4_vision"},
    make_pixels=pixels.positioned_patches,
    make_prompt=prompts.typed_placeholders("mm_token_type_ids"),
    count_vision_tokens=lambda config: N_PATCHES // config.vision_config.pooling_kernel_size**2,
    overrides={
        "vision_config.pooling_kernel_size": 2,
        "vision_config.position_embedding_size": SIDE,
        "text_config.layer_types": ["sliding_attention", "full_attention"] * 2,
        "text_config.global_head_dim": TEXT_WIDTH // 2,
        "text_config.vocab_size_per_layer_input": 300,
        "text_config.hidden_size_per_layer_input": 16,
    },
    paths=Paths(projector="model.embed_vision"),
)
DIFFUSION_GEMMA = replace(
    _GEMMA4,
    sections={},
    overrides={
        **_GEMMA4.overrides,
        "text_config.num_experts": 4,
        "text_config.top_k_experts": 2,
        "text_config.moe_intermediate_size": TEXT_WIDTH,
        "canvas_length": 8,
    },
    paths=Paths(
        vision="model.encoder.vision_tower",
        projector="model.encoder.embed_vision",
        blocks="model.decoder.layers",
    ),
)
"""Not in the zoo: it denoises blocks of tokens, and measuring it is refused."""
_GEMMA4_UNIFIED = replace(
    _GEMMA4,
    sections={"vision_config": "gemma4_unified_vision"},
    count_vision_tokens=every_patch,
    overrides={
        "text_config.layer_types": ["sliding_attention", "full_attention"] * 2,
        "text_config.global_head_dim": TEXT_WIDTH // 2,
        "vision_config.pooling_kernel_size": 1,
        "vision_config.model_patch_size": PATCH_SIZE,
        "vision_config.mm_embed_dim": VISION_WIDTH,
        "vision_config.output_proj_dims": VISION_WIDTH,
        "vision_config.mm_posemb_size": SIDE,
    },
    paths=Paths(vision="model.embed_vision", projector=None),
)
_SWA = {
    "text_config.swa_num_attention_heads": 4,
    "text_config.swa_num_key_value_heads": 2,
    "text_config.swa_head_dim": 16,
    "text_config.rel_extent": 64,
}
_INKLING = replace(
    LLAVA,
    make_pixels=pixels.timed_patches,
    overrides={**_SWA, "vision_config.n_layers": 3, "audio_config.mel_vocab_size": 4},
    paths=Paths(projector=None),
)
_INKLING2 = replace(
    LLAVA,
    make_pixels=pixels.merged_patch_grid,
    overrides={
        **_SWA,
        "text_config.unpadded_vocab_size": 300,
        "text_config.n_layers_per_attn_res_block": 2,
        "vision_config.posemb_grid_size": SIDE,
        "vision_config.projection_hidden_dim": TEXT_WIDTH,
    },
    paths=Paths(projector=None),
)
_INKLING2_LOOP = replace(
    _INKLING2,
    overrides={
        **_INKLING2.overrides,
        # The two blocks in the middle run twice.
        "text_config.n_layers_per_attn_res_block": 1,
        "text_config.loop_layer_index_start": 1,
        "text_config.loop_layer_index_end": 3,
        "text_config.loop_num_passes": 2,
        "text_config.loop_gate_rank": 8,
    },
)
_COHERE_COMPASS = replace(
    QWEN3_VL,
    overrides={
        "text_config.rope_parameters": {"full_attention": MROPE},
        "vision_config.deepstack_visual_indexes": [0, 1],
    },
)
_GLM5_NEXT = replace(
    QWEN2_VL,
    overrides={
        "text_config.num_key_value_heads": 4,
        "text_config.qk_rope_head_dim": 0,
        "text_config.linear_head_dim": 16,
        "text_config.linear_num_heads": 4,
        "text_config.hc_sinkhorn_iters": 2,
        "vision_config.projection_intermediate_size": TEXT_WIDTH,
    },
)
_QWEN4_EXP = replace(
    QWEN2_VL,
    overrides={
        "text_config.rope_parameters": mrope([2, 1, 1], partial_rotary_factor=0.5),
        "text_config.hc_lowrank": 16,
        "text_config.indexer_n_heads": 4,
        "text_config.indexer_kv_heads": 1,
        "text_config.indexer_head_dim": 16,
        "text_config.indexer_budget": 64,
        "text_config.indexer_compress_ratio": 4,
    },
)
_MUSE_SPARK = replace(
    _GRID,
    count_vision_tokens=four_in_one,
    overrides={
        "out_hidden_size": 4 * VISION_WIDTH,
        "text_config.moe_hidden_size": TEXT_WIDTH,
        "audio_config.hidden_sizes": [8, 8, 8, 8],
    },
    paths=Paths(projector="model.vision_adapter"),
)
_ERNIE4_5_VL_MOE = replace(
    QWEN2_VL,
    overrides={"text_config.rope_parameters": mrope([3, 3, 2])},
    paths=Paths(projector="model.resampler_model"),
)
_NEMOTRON_H_OMNI = replace(
    LLAVA,
    make_pixels=pixels.tall_patch_grid,
    count_vision_tokens=four_in_one,
    overrides={
        "vision_hidden_size": VISION_WIDTH,
        "vision_config.max_img_size": SIDE * PATCH_SIZE,
        "text_config.mamba_num_heads": 4,
        "text_config.mamba_head_dim": 16,
        "text_config.ssm_state_size": 16,
        "text_config.n_groups": 2,
        "text_config.moe_shared_expert_intermediate_size": TEXT_WIDTH,
    },
    paths=Paths(
        vision="vision_model",
        projector="multi_modal_projector",
        blocks="language_model.model.layers",
    ),
)
_DOTS3_NOTE = replace(
    _GRID,
    overrides={
        "text_config.num_key_value_heads": 4,
        "text_config.layer_types": ["indexed_attention", "sliding_attention"] * 2,
        "text_config.head_dim": 32,
        "text_config.swa_num_attention_heads": 4,
        "text_config.swa_num_key_value_heads": 4,
        "text_config.swa_q_lora_rank": 32,
        "text_config.swa_kv_lora_rank": 32,
        "text_config.swa_head_dim": 32,
        "text_config.swa_qk_nope_head_dim": 16,
        "text_config.swa_v_head_dim": 16,
        "text_config.shared_experts_intermediate_size": TEXT_WIDTH,
        # A dense layer, and one of four experts.
        "vision_config.pyramid_num_routed": [-1, 4],
        "vision_config.moe_intermediate_size": VISION_WIDTH,
        "vision_config.adapter_in_dim": VISION_WIDTH,
        "vision_config.adapter_out_dim": TEXT_WIDTH,
        "audio_config.downsample_hidden_size": 8,
        "audio_config.adapter_input_size": TEXT_WIDTH,
        "audio_config.adapter_out_dim": TEXT_WIDTH,
    },
    paths=Paths(projector=None),
)
_HY_V4_VL = replace(
    QWEN2_VL,
    # Each row of merged patches has a newline.
    count_vision_tokens=lambda config: SIDE // 2 * (SIDE // 2 + 1),
    overrides={
        "text_config.rope_parameters": mrope([3, 3, 2]),
        "vision_config.max_image_size": SIDE * PATCH_SIZE,
    },
    paths=Paths(vision="model.vision_tower", projector=None),
)

NEWEST: dict[str, Recipe] = {
    "gemma4": _GEMMA4,
    "gemma4_unified": _GEMMA4_UNIFIED,
    "inkling_mm_model": _INKLING,
    "inkling2": _INKLING2,
    "inkling2_loop": _INKLING2_LOOP,
    "hy_v4_vl": _HY_V4_VL,
    "cohere_compass": _COHERE_COMPASS,
    "glm5_next": _GLM5_NEXT,
    "qwen4_exp": _QWEN4_EXP,
    "muse_spark": _MUSE_SPARK,
    "ernie4_5_vl_moe": _ERNIE4_5_VL_MOE,
    "nemotron_h_omni": _NEMOTRON_H_OMNI,
    "dots3_note": _DOTS3_NOTE,
}
