"""The architectures that must always work: what each adds to the rules.

A further architecture is one more entry: the sizes that the shrinking rule can't know, the kind
of its pixels and of its prompt, and where its parts are.
"""

import math

from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo import pixels, prompts
from tests.zoo.pixels import N_PATCHES
from tests.zoo.shrink import IMAGE_SIZE, TEXT_WIDTH, VISION_WIDTH, VOCABULARY
from tests.zoo.specimen import Paths, Recipe

N_CROPS = 2


def every_patch(config: PreTrainedConfig) -> int:
    """Return the number of patches of an image: nothing is pooled."""
    return N_PATCHES


def every_patch_and_class(config: PreTrainedConfig) -> int:
    """Return the number of patches and the class token: the tower's whole output is used."""
    return N_PATCHES + 1


def merged_patches(config: PreTrainedConfig) -> int:
    """Return the number of patches after `spatial_merge_size` squared of them became one."""
    return int(N_PATCHES // config.vision_config.spatial_merge_size**2)


def shuffled_crop_patches(config: PreTrainedConfig) -> int:
    """Return the number of patches of all crops after `scale_factor` squared became one."""
    return int(N_CROPS * N_PATCHES // config.scale_factor**2)


def mrope(section: list[int], **more: float) -> dict[str, object]:
    """Return rotary parameters whose frequencies are shared among time, height and width."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": section, **more}


# Half a head of 16 is 8 frequencies.
MROPE = mrope([2, 3, 3])

LLAVA = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.placeholders,
    count_vision_tokens=every_patch,
)
QWEN2_VL = Recipe(
    make_pixels=pixels.patch_grid,
    make_prompt=prompts.typed_placeholders("mm_token_type_ids"),
    count_vision_tokens=merged_patches,
    overrides={"vision_config.hidden_size": TEXT_WIDTH, "text_config.rope_parameters": MROPE},
    paths=Paths(vision="model.visual", projector=None),
)
QWEN3_VL = Recipe(
    make_pixels=pixels.patch_grid,
    make_prompt=prompts.typed_placeholders("mm_token_type_ids"),
    count_vision_tokens=merged_patches,
    overrides={
        "text_config.rope_parameters": MROPE,
        "vision_config.deepstack_visual_indexes": [0, 1],
    },
    paths=Paths(vision="model.visual", projector=None),
)
_IDEFICS3 = Recipe(
    make_pixels=pixels.batched_crops(N_CROPS),
    make_prompt=prompts.placeholders,
    count_vision_tokens=shuffled_crop_patches,
    paths=Paths(
        vision="model.vision_model",
        projector="model.connector",
        blocks="model.text_model.layers",
    ),
)
_MLLAMA = Recipe(
    make_pixels=pixels.aspect_ratio_tiles,
    make_prompt=prompts.marker,
    count_vision_tokens=lambda config: config.vision_config.max_num_tiles * (N_PATCHES + 1),
    is_placeholder=False,
    overrides={
        "text_config.cross_attention_layers": [1, 3],
        # Its own default, which earlier transformers leave unsaid and then ask for.
        "text_config.rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "vision_config.intermediate_layers_indices": [0, 1],
        "vision_config.num_global_layers": 1,
        # The tower's own output beside the two intermediate layers'.
        "vision_config.vision_output_dim": 3 * VISION_WIDTH,
    },
    paths=Paths(vision="model.vision_model"),
    vision_runs="inside forward",
)
_PALIGEMMA = Recipe(
    make_pixels=pixels.square,
    # The prompt is one prefix, image and words: only the answer is typed 1.
    make_prompt=prompts.typed_placeholders("token_type_ids", image=0),
    count_vision_tokens=every_patch,
)
GEMMA3 = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.typed_placeholders("token_type_ids"),
    count_vision_tokens=lambda config: config.mm_tokens_per_image,
    overrides={
        "mm_tokens_per_image": 4,
        # Both kinds of layers, as in the real one: the rule's depth has room for one kind only.
        "text_config.layer_types": ["sliding_attention", "full_attention"] * 2,
        "text_config.query_pre_attn_scalar": TEXT_WIDTH // 4,
    },
)
INTERNVL = Recipe(
    make_pixels=pixels.crops(N_CROPS),
    make_prompt=prompts.placeholders,
    count_vision_tokens=lambda config: int(N_CROPS * N_PATCHES * config.downsample_ratio**2),
)
BLIP_2 = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.placeholders,
    count_vision_tokens=lambda config: config.num_query_tokens,
    overrides={"num_query_tokens": 4, "image_token_index": VOCABULARY - 1},
    # Its generate() encodes the image itself, and then calls the language model's generate().
    paths=Paths(
        vision="vision_model",
        projector="qformer",
        blocks="language_model.model.decoder.layers",
        step="language_model",
    ),
    takes_text_alone=False,
)
_MOLMO2 = Recipe(
    make_pixels=pixels.pooled_patches,
    make_prompt=prompts.typed_placeholders("mm_token_type_ids"),
    count_vision_tokens=lambda config: N_PATCHES // 4,
    overrides={"adapter_config.vision_feature_layer": [1, 0]},
)
_FLORENCE2 = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.placeholders,
    # The mean of the patches comes on top of them.
    count_vision_tokens=lambda config: (
        1 + (IMAGE_SIZE // math.prod(config.vision_config.patch_stride)) ** 2
    ),
    overrides={
        "vision_config.depths": [1, 1, 1, 1],
        "vision_config.embed_dim": [8, 16, 32, 64],
        "vision_config.num_heads": [1, 2, 4, 8],
        "vision_config.num_groups": [1, 2, 4, 8],
        "vision_config.patch_size": [7, 3, 3, 3],
        "vision_config.patch_stride": [4, 2, 2, 1],
        "vision_config.window_size": 4,
        "vision_config.projection_dim": TEXT_WIDTH,
    },
    paths=Paths(
        blocks="model.language_model.decoder.layers",
        text_encoder="model.language_model.encoder",
    ),
    weight_gain=0.7,
)
GIT = Recipe(
    make_pixels=pixels.square,
    make_prompt=prompts.words,
    count_vision_tokens=every_patch_and_class,
    is_placeholder=False,
    paths=Paths(
        vision="git.image_encoder",
        projector="git.visual_projection",
        blocks="git.encoder.layer",
    ),
    vision_runs="inside forward",
    weight_gain=0.7,
)

REQUIRED: dict[str, Recipe] = {
    "llava": LLAVA,
    "qwen2_vl": QWEN2_VL,
    "qwen3_vl": QWEN3_VL,
    "smolvlm": _IDEFICS3,
    "idefics3": _IDEFICS3,
    "mllama": _MLLAMA,
    "paligemma": _PALIGEMMA,
    "gemma3": GEMMA3,
    "internvl": INTERNVL,
    "blip-2": BLIP_2,
    "molmo2": _MOLMO2,
    "florence2": _FLORENCE2,
    "git": GIT,
}
