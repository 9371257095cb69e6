"""Models that the mapping doesn't have: LLaVA with OLMoE, our MolmoE, one after the first Molmo.

Their names are none of transformers' own, so they are there with any version of it.
"""

from dataclasses import replace

from transformers import CLIPVisionConfig, OlmoeConfig

from pytest_vlmlatency.models.molmoe import (
    FEATURE_LAYERS,
    MolmoeConfig,
    MolmoeForConditionalGeneration,
)
from tests.zoo import pixels, prompts
from tests.zoo.molmo import Molmo, MolmoConfig
from tests.zoo.pixels import N_PATCHES, SIDE
from tests.zoo.recipes import LLAVA, N_CROPS
from tests.zoo.shrink import (
    BOS,
    DEPTH,
    EOS,
    IMAGE_SIZE,
    PAD,
    PATCH_SIZE,
    TEXT_WIDTH,
    VISION_WIDTH,
    VOCABULARY,
)
from tests.zoo.specimen import Paths, Recipe

_MARGIN_PATCHES = 2


def make_molmoe() -> MolmoeForConditionalGeneration:
    """Return our MolmoE at the zoo's size: a crop has two by two tokens, and a margin of one."""
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=2 * VISION_WIDTH,
        projection_dim=VISION_WIDTH,
        num_hidden_layers=-min(FEATURE_LAYERS),
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    text = OlmoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_experts=4,
        num_experts_per_tok=2,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    config = MolmoeConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=VOCABULARY - 1,
        vision_feature_layer=FEATURE_LAYERS,
        margin_patches=_MARGIN_PATCHES,
        projector_width=TEXT_WIDTH,
        tier="low",
    )
    return MolmoeForConditionalGeneration(config)


def make_molmo() -> Molmo:
    """Return the model in the original Molmo's style, at the zoo's size."""
    return Molmo(
        MolmoConfig(
            d_model=TEXT_WIDTH,
            n_heads=4,
            n_layers=DEPTH,
            vocab_size=VOCABULARY,
            image_width=VISION_WIDTH,
            image_layers=2,
            patch_values=3 * PATCH_SIZE**2,
        )
    )


def overview_and_two_crops(config: object) -> int:
    """Return the overview's tokens, and those of two crops side by side without their margins."""
    n_pools = SIDE // 2
    return n_pools**2 + n_pools * 2 * (n_pools - _MARGIN_PATCHES // 2)


OUTSIDE: dict[str, Recipe] = {
    "llava+olmoe": replace(LLAVA, architecture="llava", sections={"text_config": "olmoe"}),
    "molmoe": replace(
        LLAVA,
        make_model=make_molmoe,
        make_pixels=pixels.gridded_crops,
        count_vision_tokens=overview_and_two_crops,
    ),
    "molmo": Recipe(
        make_model=make_molmo,
        make_pixels=pixels.crops_of_patches(N_CROPS),
        make_prompt=prompts.indexed_placeholders(N_CROPS),
        count_vision_tokens=lambda config: N_CROPS * N_PATCHES // config.pool,
        paths=Paths(vision="vision_backbone", projector=None, blocks="transformer.blocks"),
        vision_runs="inside forward",
    ),
}
