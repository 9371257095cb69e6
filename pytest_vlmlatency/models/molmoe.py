"""The configuration of a MolmoE-shaped model: transformers' own parts, and what they lack.

`tier` is the one field that changes while a model lives: how many crops it takes now.

From a vision tower's patches to MolmoE's image tokens, and from crops to one image.

2x2 attention pooling, a SwiGLU network, and joining overlapping crops. Knows no model around it.

A model of MolmoE-1B's shape, out of transformers' parts; its generate() is transformers' own.

LLaVA's wiring around a CLIP vision tower and an OLMoE text decoder. What LLaVA lacks is here: the
features of two layers side by side, 2x2 attention pooling, a SwiGLU projector, and overlapping
crops whose margins are dropped. Weights are random: the shape is MolmoE's, the answers are not.

`config.tier` says how many crops the model takes now; crops of another tier are refused. `crops`
makes them, `knobs` changes the tier. Unlike MolmoE, padded borders have no embedding of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import (
    Cache,
    CLIPVisionConfig,
    GenerationMixin,
    LlavaConfig,
    LlavaModel,
    LlavaPreTrainedModel,
    OlmoeConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import (
    LlavaCausalLMOutputWithPast,
    LlavaModelOutputWithPast,
)

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem
from pytest_vlmlatency.models.processors import END, MOLMOE_IMAGE, PAD, build_tokenizer, token_id
from pytest_vlmlatency.models.random_weights import build_random
from pytest_vlmlatency.models.shapes import MOLMOE_SCALES, TIERS

if TYPE_CHECKING:
    from pytest_vlmlatency.models.shapes import MolmoeScale


# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)


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


# mypy: allow-untyped-calls
# (torch annotates only a part of its functions.)


# I images, C crops of each (the overview first), P patches along a crop's side, N pools (2x2
# patches) along it, W width of the tower, L its feature layers, H width of the text decoder,
# T image tokens.


class AttentionPooling(nn.Module):
    """Each 2x2 square of patches attends to itself, with its mean as the query."""

    def __init__(self, features_width: int, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(features_width, width)
        self.k_proj = nn.Linear(features_width, width)
        self.v_proj = nn.Linear(features_width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return one vector for each square."""
        n_crops, patches = features.shape[:2]
        pools = patches // 2
        squares = features.unflatten(1, (pools, 2)).unflatten(3, (pools, 2))
        squares = squares.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # -> (I*C*N*N, 4, L*W)
        pooled = nn.functional.scaled_dot_product_attention(
            self._heads(self.q_proj(squares.mean(dim=1, keepdim=True))),
            self._heads(self.k_proj(squares)),
            self._heads(self.v_proj(squares)),
        )
        joined: torch.Tensor = self.o_proj(pooled.transpose(1, 2).flatten(1))
        return joined.view(n_crops, pools, pools, -1)  # (I*C, P, P, L*W) -> (I*C, N, N, W)

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        heads: torch.Tensor = states.unflatten(-1, (self.n_heads, -1))
        return heads.transpose(1, 2)


class MolmoeProjector(nn.Module):
    """Attention pooling, then a SwiGLU network to the text decoder's width."""

    def __init__(
        self, *, features_width: int, width: int, n_heads: int, inner_width: int, text_width: int
    ) -> None:
        super().__init__()
        self.pooling = AttentionPooling(features_width, width, n_heads)
        self.gate_proj = nn.Linear(width, inner_width, bias=False)
        self.up_proj = nn.Linear(width, inner_width, bias=False)
        self.down_proj = nn.Linear(inner_width, text_width, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the tokens of each crop, margins included."""
        pooled = self.pooling(features)
        gated = nn.functional.silu(self.gate_proj(pooled)) * self.up_proj(pooled)
        projected: torch.Tensor = self.down_proj(gated)
        return projected  # (I*C, P, P, L*W) -> (I*C, N, N, H)


def without_overlap(crops: torch.Tensor, rows: int, columns: int, margin: int) -> torch.Tensor:
    """Return an image's tokens: its overview, then its crops joined where their margins meet."""
    overview, *others = crops  # (N, N, H) each
    bands = []
    for row in range(rows):
        across = [
            others[row * columns + column][_kept(row, rows, margin)][
                :, _kept(column, columns, margin)
            ]
            for column in range(columns)
        ]
        bands.append(torch.cat(across, dim=1))
    grid = torch.cat(bands, dim=0)
    return torch.cat([overview.flatten(0, 1), grid.flatten(0, 1)])  # -> (T, H)


def _kept(index: int, count: int, margin: int) -> slice:
    """Return what a crop keeps along one direction: the margin only at the image's own border."""
    return slice(0 if index == 0 else margin, None if index == count - 1 else -margin)


# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)


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
