"""A model of MolmoE-1B's shape, out of transformers' parts; its generate() is transformers' own.

LLaVA's wiring around a CLIP vision tower and an OLMoE text decoder. What LLaVA lacks is here: the
features of two layers side by side, 2x2 attention pooling, a SwiGLU projector, and overlapping
crops whose margins are dropped. Weights are random: the shape is MolmoE's, the answers are not.

`config.tier` says how many crops the model takes now; crops of another tier are refused. `crops`
makes them, `knobs` changes the tier. Unlike MolmoE, padded borders have no embedding of their own.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import (
    Cache,
    GenerationMixin,
    LlavaModel,
    LlavaPreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import (
    LlavaCausalLMOutputWithPast,
    LlavaModelOutputWithPast,
)

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem
from pytest_vlmlatency.models.molmoe_config import FEATURE_LAYERS, MolmoeConfig, molmoe_config
from pytest_vlmlatency.models.projector import MolmoeProjector, without_overlap
from pytest_vlmlatency.models.random_weights import build_random
from pytest_vlmlatency.models.scales import MOLMOE_SCALES, TIERS

# I images, C crops of each (the overview first), P patches along a crop's side, N pools (2x2
# patches) along it, W width of the tower, L its feature layers, H width of the text decoder,
# T image tokens.


class MolmoeModel(LlavaModel):
    """LLaVA's model with MolmoE's projector and crops."""

    config: MolmoeConfig

    def __init__(self, config: MolmoeConfig) -> None:
        super().__init__(config)
        vision = config.vision_config
        self.multi_modal_projector = MolmoeProjector(  # type: ignore[assignment]  # LLaVA's is another
            features_width=vision.hidden_size * len(FEATURE_LAYERS),
            width=vision.hidden_size,
            n_heads=vision.num_attention_heads,
            inner_width=config.projector_width,
            text_width=config.text_config.hidden_size,
        )
        self.post_init()

    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        crop_grids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Return each image's tokens as `pooler_output`: the overview's, then the grid's."""
        grids = _checked_grids(pixel_values, crop_grids, self.config.tier)
        outputs = self.vision_tower(
            pixel_values.flatten(0, 1), output_hidden_states=True, return_dict=True
        )
        layers = [outputs.hidden_states[layer][:, 1:] for layer in FEATURE_LAYERS]
        features = torch.cat(layers, dim=-1)  # (I*C, P*P, L*W)
        patches = round(features.shape[1] ** 0.5)
        crops = self.multi_modal_projector(features.unflatten(1, (patches, patches)))
        images = crops.unflatten(0, pixel_values.shape[:2])  # (I, C, N, N, H)
        margin = self.config.margin_patches // 2
        joined = [
            without_overlap(image, *grid, margin) for image, grid in zip(images, grids, strict=True)
        ]
        return BaseModelOutputWithPooling(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=joined,  # type: ignore[arg-type]  # I x (T, H), as LLaVA's own
        )

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        crop_grids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> LlavaModelOutputWithPast:
        """Run the text decoder over the prompt's tokens with the images' in their places."""
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        encoded = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None:
            encoded = self.get_image_features(pixel_values, crop_grids)
        if encoded is not None:
            images = cast("list[torch.Tensor]", encoded.pooler_output)  # I x (T, H)
            features = torch.cat(images).to(inputs_embeds)
            places = self.get_placeholder_mask(
                input_ids,  # type: ignore[arg-type]  # it may be None
                inputs_embeds,
                features,
            )
            inputs_embeds = inputs_embeds.masked_scatter(places, features)
        outputs: LlavaModelOutputWithPast = super().forward(inputs_embeds=inputs_embeds, **kwargs)
        return outputs


class MolmoeForConditionalGeneration(LlavaPreTrainedModel, GenerationMixin):
    """The model with its language modelling head: what `generate` is called on."""

    config: MolmoeConfig
    base_model_prefix = "model"

    def __init__(self, config: MolmoeConfig) -> None:
        super().__init__(config)
        self.model = MolmoeModel(config)
        self.lm_head = nn.Linear(
            config.text_config.hidden_size, config.text_config.vocab_size, bias=False
        )
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        crop_grids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> LlavaCausalLMOutputWithPast:
        """Return the logits of the last `logits_to_keep` positions, 0 meaning all.

        The cache, whose name differs between versions of transformers, is handed on as it came.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            crop_grids=crop_grids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        others = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        kept = outputs.last_hidden_state[:, -logits_to_keep:]
        return LlavaCausalLMOutputWithPast(logits=self.lm_head(kept), **others)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the next forward is given; what the cache holds is not encoded again.

        transformers 5 encodes images before its loop, and leaves no pixels to be dropped here.
        """
        inputs = super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]  # a mixin's
        cache = next((value for value in inputs.values() if isinstance(value, Cache)), None)
        if cache is not None and cache.get_seq_length() > 0:
            inputs |= {"pixel_values": None, "crop_grids": None}
        return inputs


def build_molmoe(
    scale: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    attn: str = "sdpa",
) -> MolmoeForConditionalGeneration:
    """Return a MolmoE-shaped model with random weights, built on its device in its dtype.

    The global random state is left as it was. On "meta" it has shapes but no weights.
    """
    if scale not in MOLMOE_SCALES:
        raise UsageProblem(
            f"there is no MolmoE scale {scale!r}; there are {', '.join(MOLMOE_SCALES)}"
        )
    return build_random(
        MolmoeForConditionalGeneration,
        molmoe_config(MOLMOE_SCALES[scale]),
        seed=seed,
        dtype=dtype,
        device=device,
        attn=attn,
    )


def _checked_grids(
    pixel_values: torch.Tensor, crop_grids: torch.Tensor | None, tier: str
) -> list[tuple[int, int]]:
    if pixel_values.ndim != 5 or crop_grids is None or crop_grids.shape != (len(pixel_values), 2):
        raise UsageProblem(
            f"pixel_values is {tuple(pixel_values.shape)} and crop_grids is "
            f"{None if crop_grids is None else tuple(crop_grids.shape)}; expected (images, crops, "
            f"channels, height, width) and (images, 2), as the model's processor makes them"
        )
    grids = [(int(rows), int(columns)) for rows, columns in crop_grids.tolist()]
    shorter, longer = TIERS[tier]
    expected, n_crops = shorter * longer, pixel_values.shape[1] - 1
    if any(rows * columns != n_crops or n_crops != expected for rows, columns in grids):
        raise KnobNotApplied(
            f"the inputs hold {n_crops} crops and an overview of each image, in grids of {grids}; "
            f"the model's tier is {tier!r}, which has {expected} crops: prepare the inputs again "
            f"after the configuration was applied"
        )
    return grids
