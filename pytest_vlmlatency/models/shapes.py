"""The sizes of the MolmoE shape and the tiers of its input, as plain data.

Importing this loads neither torch nor transformers; `molmoe` builds models from it.

The real shapes that `dummy:NAME` builds with random weights, as plain data.

Latency does not depend on trained weights, so a published architecture at its published size can
be measured without its checkpoint. Owns names, descriptions and hyperparameters only: importing
it loads neither torch nor transformers. Token ids come from the tokenizer that `dummy` adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


TIERS: Mapping[str, tuple[int, int]] = {"low": (1, 2), "medium": (2, 3), "high": (3, 4)}
"""Crops of a MolmoE tier besides the overview: the shorter and the longer side of their grid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MolmoeScale:
    """One size of the MolmoE shape: a vision tower over `crop_patches`² patches, 16 blocks.

    `margin_patches` of each side of a crop overlap its neighbour and are dropped there.
    """

    crop_patches: int
    margin_patches: int
    vision_width: int
    vision_mlp_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_heads: int
    expert_width: int
    n_experts: int
    vocabulary: int | None
    dtype: str = "float32"

    n_blocks: int = 16
    patch_pixels: int = 14


MOLMOE_SCALES: Mapping[str, MolmoeScale] = {
    "nano": MolmoeScale(
        crop_patches=8,
        margin_patches=2,
        vision_width=32,
        vision_mlp_width=64,
        vision_layers=9,
        vision_heads=2,
        text_width=64,
        text_heads=4,
        expert_width=32,
        n_experts=12,  # as many as the largest top_k: on a CPU each one costs
        vocabulary=None,
    ),
    "tiny": MolmoeScale(
        crop_patches=12,
        margin_patches=2,
        vision_width=64,
        vision_mlp_width=256,
        vision_layers=10,
        vision_heads=4,
        text_width=128,
        text_heads=4,
        expert_width=64,
        n_experts=16,
        vocabulary=None,
    ),
    "small": MolmoeScale(
        crop_patches=16,
        margin_patches=4,
        vision_width=128,
        vision_mlp_width=512,
        vision_layers=12,
        vision_heads=4,
        text_width=256,
        text_heads=8,
        expert_width=128,
        n_experts=32,
        vocabulary=None,
    ),
    # config.json of allenai/MolmoE-1B-0924; OLMoE's vocabulary and its 128 additional tokens.
    # The tower has 23 of CLIP ViT-L/14-336's 24 layers.
    "full": MolmoeScale(
        crop_patches=24,
        margin_patches=4,
        vision_width=1024,
        vision_mlp_width=4096,
        vision_layers=23,
        vision_heads=16,
        text_width=2048,
        text_heads=16,
        expert_width=1024,
        n_experts=64,
        vocabulary=50304 + 128,
        dtype="bfloat16",
    ),
}


PREFIX = "dummy:"


@dataclass(frozen=True, slots=True, kw_only=True)
class DummyShape:
    """One architecture at one size. `config` and `image_processor` are keyword arguments.

    `dtype` is the one that the published checkpoint has: what `dtype="auto"` means.
    """

    family: str
    description: str
    dtype: str
    config: Mapping[str, Any]
    image_processor: Mapping[str, Any]


def _molmoe(scale: str, description: str) -> DummyShape:
    return DummyShape(
        family="molmoe",
        description=description,
        dtype=MOLMOE_SCALES[scale].dtype,
        config={"scale": scale},
        image_processor={},
    )


def _square(side: int) -> dict[str, object]:
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


def _tiles(longest_side: int, tile_side: int) -> dict[str, object]:
    return {
        "size": {"longest_edge": longest_side},
        "max_image_size": {"longest_edge": tile_side},
    }


DUMMY_SHAPES: Mapping[str, DummyShape] = {
    # config.json of HuggingFaceTB/SmolVLM-256M-Instruct, an idefics3.
    "smolvlm-256m": DummyShape(
        family="idefics3",
        description="SmolVLM-256M: SigLIP base at 512 pixels a tile, 30-block Llama text, 256 M",
        dtype="bfloat16",
        config={
            "scale_factor": 4,
            "vision_config": {
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "image_size": 512,
                "patch_size": 16,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": 49280,
                "hidden_size": 576,
                "intermediate_size": 1536,
                "num_hidden_layers": 30,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "head_dim": 64,
                "max_position_embeddings": 8192,
                "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
                "rms_norm_eps": 1e-5,
            },
        },
        image_processor=_tiles(2048, 512),
    ),
    "smolvlm-tiny": DummyShape(
        family="idefics3",
        description="SmolVLM's wiring at a size for CPUs: up to 17 tiles of 16 tokens, 1 M",
        dtype="float32",
        config={
            "scale_factor": 4,
            "vision_config": {
                "hidden_size": 64,
                "intermediate_size": 256,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": 128,
                "patch_size": 8,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": None,
                "hidden_size": 96,
                "intermediate_size": 256,
                "num_hidden_layers": 6,
                "num_attention_heads": 6,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
            },
        },
        image_processor=_tiles(512, 128),
    ),
    # config.json and preprocessor_config.json of Qwen/Qwen2-VL-2B-Instruct.
    "qwen2-vl-2b": DummyShape(
        family="qwen2_vl",
        description="Qwen2-VL-2B: a 32-layer tower at native resolution, 28-block Qwen2, 2.2 B",
        dtype="bfloat16",
        config={
            "tie_word_embeddings": True,
            "vision_config": {
                "depth": 32,
                "embed_dim": 1280,
                "hidden_size": 1536,
                "mlp_ratio": 4,
                "num_heads": 16,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
            "text_config": {
                "vocab_size": 151936,
                "hidden_size": 1536,
                "intermediate_size": 8960,
                "num_hidden_layers": 28,
                "num_attention_heads": 12,
                "num_key_value_heads": 2,
                "max_position_embeddings": 32768,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1000000.0,
                    "mrope_section": [16, 24, 24],
                },
            },
        },
        image_processor={"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 16384}},
    ),
    "qwen2-vl-tiny": DummyShape(
        family="qwen2_vl",
        description="Qwen2-VL's wiring at a size for CPUs: up to 256 image tokens, 1 M",
        dtype="float32",
        config={
            "tie_word_embeddings": True,
            "vision_config": {
                "depth": 4,
                "embed_dim": 64,
                "hidden_size": 96,
                "mlp_ratio": 4,
                "num_heads": 4,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
            "text_config": {
                "vocab_size": None,
                "hidden_size": 96,
                "intermediate_size": 256,
                "num_hidden_layers": 6,
                "num_attention_heads": 6,
                "num_key_value_heads": 2,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1000000.0,
                    "mrope_section": [2, 3, 3],
                },
            },
        },
        image_processor={"size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 256}},
    ),
    # config.json of llava-hf/llava-1.5-7b-hf: CLIP ViT-L/14-336 and Vicuna 7B.
    "llava-1.5-7b": DummyShape(
        family="llava",
        description="LLaVA-1.5-7B: CLIP ViT-L/14-336, 576 image tokens, 32-block Llama, 7.06 B",
        dtype="float16",
        config={
            "image_seq_length": 576,
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": 32064,
                "hidden_size": 4096,
                "intermediate_size": 11008,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-5,
            },
        },
        image_processor=_square(336),
    ),
    "llava-tiny": DummyShape(
        family="llava",
        description="LLaVA-1.5's wiring at a size for CPUs: 144 image tokens, 2 M",
        dtype="float32",
        config={
            "image_seq_length": 144,
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 64,
                "intermediate_size": 256,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "image_size": 168,
                "patch_size": 14,
                "projection_dim": 64,
            },
            "text_config": {
                "model_type": "llama",
                "vocab_size": None,
                "hidden_size": 128,
                "intermediate_size": 344,
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-5,
            },
        },
        image_processor=_square(168),
    ),
    "molmoe-1b-7b": _molmoe("full", "MolmoE-1B-7B: CLIP ViT-L/14-336 crops, OLMoE text, 7.2 B"),
    "molmoe-nano": _molmoe("nano", "MolmoE's wiring, smallest: 40 to 96 image tokens, 2 M"),
    "molmoe-tiny": _molmoe("tiny", "MolmoE's wiring for CPUs: 96 to 288 image tokens, 8 M"),
    "molmoe-small": _molmoe("small", "MolmoE's wiring, larger: 160 to 384 image tokens, 58 M"),
}
"""What stands behind `dummy:`. A vocabulary of None means: as large as the tokenizer's."""
