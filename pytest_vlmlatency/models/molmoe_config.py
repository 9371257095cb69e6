"""The configuration of a MolmoE-shaped model: transformers' own parts, and what they lack.

`tier` is the one field that changes while a model lives: how many crops it takes now.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import CLIPVisionConfig, LlavaConfig, OlmoeConfig

from pytest_vlmlatency.models.tokenizer import END, MOLMOE_IMAGE, PAD, build_tokenizer, token_id

if TYPE_CHECKING:
    from pytest_vlmlatency.models.scales import MolmoeScale

FEATURE_LAYERS = [-2, -9]  # MolmoE's vit_layers


class MolmoeConfig(LlavaConfig):
    """LLaVA's configuration with the crops' overlap, the projector's width and the current tier.

    Its own __init__, since LLaVA's is a dataclass in transformers 5 and was none before.
    """

    model_type = "molmoe"

    def __init__(
        self,
        *,
        margin_patches: int = 4,
        projector_width: int = 1024,
        tier: str = "high",
        **kwargs: Any,
    ) -> None:
        self.margin_patches = margin_patches
        self.projector_width = projector_width
        self.tier = tier
        super().__init__(**kwargs)

    if TYPE_CHECKING:  # what LLaVA declares as any configuration
        vision_config: CLIPVisionConfig
        text_config: OlmoeConfig

    @property
    def crop_pixels(self) -> int:
        """The side of a crop."""
        side = self.vision_config.image_size
        assert isinstance(side, int), "MolmoE's crops are squares"
        return side

    @property
    def patch_pixels(self) -> int:
        """The side of a patch."""
        side = self.vision_config.patch_size
        assert isinstance(side, int), "CLIP's patches are squares"
        return side


def molmoe_config(scale: MolmoeScale) -> MolmoeConfig:
    """Return the configuration of one scale, with the token ids of our own tokenizer."""
    image_side = scale.crop_patches * scale.patch_pixels
    vision = CLIPVisionConfig(
        hidden_size=scale.vision_width,
        intermediate_size=scale.vision_mlp_width,
        projection_dim=scale.vision_width,
        num_hidden_layers=scale.vision_layers,
        num_attention_heads=scale.vision_heads,
        image_size=image_side,
        patch_size=scale.patch_pixels,
    )
    text = OlmoeConfig(
        vocab_size=scale.vocabulary or len(build_tokenizer()),
        hidden_size=scale.text_width,
        intermediate_size=scale.expert_width,
        num_hidden_layers=scale.n_blocks,
        num_attention_heads=scale.text_heads,
        num_experts=scale.n_experts,
        num_experts_per_tok=8,
        pad_token_id=token_id(PAD),
        eos_token_id=token_id(END),
    )
    return MolmoeConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=token_id(MOLMOE_IMAGE[1]),
        vision_feature_layer=FEATURE_LAYERS,
        margin_patches=scale.margin_patches,
        projector_width=scale.text_width // 2,
    )
