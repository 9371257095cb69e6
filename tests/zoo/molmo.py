"""A model of nobody's library, written as publishers of remote code do, after the original Molmo.

Vision runs inside forward, blocks live under `transformer.blocks`, features are added where a
tensor of positions says, the cache is a list of pairs, and generate() is its own.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import torch
from torch import nn
from torch.nn import functional

# B rows, L positions, D width, C crops, P patches of each, V values of a patch, T tokens of a crop.
Past = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MolmoConfig:
    """The sizes, by the names that publishers give them."""

    d_model: int
    n_heads: int
    n_layers: int
    vocab_size: int
    image_width: int
    image_layers: int
    patch_values: int
    pool: int = 4
    is_encoder_decoder: bool = False


class Cache(list[tuple[torch.Tensor, torch.Tensor]]):
    """Keys and values, block by block."""

    def get_seq_length(self) -> int:
        """Return how many positions are remembered."""
        return self[0][0].shape[2]


class Attention(nn.Module):
    """One projection for queries, keys and values; rotary positions."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.att_proj = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)

    def forward(
        self, states: torch.Tensor, past: tuple[torch.Tensor, torch.Tensor] | None, *, causal: bool
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        heads = self.att_proj(states).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads  # (B, heads, L, D / heads) each
        start = past[0].shape[2] if past else 0
        query, key = rotated(query, start), rotated(key, start)
        if past:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
        is_prompt = causal and query.shape[2] > 1
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=is_prompt)
        return self.attn_out(attended.transpose(1, 2).flatten(2)), (key, value)


class Block(nn.Module):
    """Attention and a gated network, each after its norm."""

    def __init__(self, width: int, n_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.attn_norm, self.ff_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.ff_proj = nn.Linear(width, 4 * width, bias=False)
        self.ff_out = nn.Linear(2 * width, width, bias=False)

    def forward(
        self, states: torch.Tensor, layer_past: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        attended, cache = self.attention(self.attn_norm(states), layer_past, causal=self.causal)
        states = states + attended
        value, gate = self.ff_proj(self.ff_norm(states)).chunk(2, dim=-1)
        return states + self.ff_out(functional.silu(gate) * value), cache


class VisionBackbone(nn.Module):
    """A tower over patches, pooling and a projector."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        width, self.pool = config.image_width, config.pool
        self.patch_embedding = nn.Linear(config.patch_values, width, bias=False)
        self.resblocks = nn.ModuleList(
            [Block(width, config.n_heads, causal=False) for _ in range(config.image_layers)]
        )
        self.image_projector = nn.Linear(width, config.d_model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states = self.patch_embedding(images.flatten(0, 1))  # (B, C, P, V) -> (B*C, P, D)
        for block in self.resblocks:
            states, _ = block(states)
        pooled = states.unflatten(1, (-1, self.pool)).mean(dim=2)
        projected: torch.Tensor = self.image_projector(pooled)
        return projected.reshape(*images.shape[:2], *projected.shape[1:])  # -> (B, C, T, D)


class Molmo(nn.Module):
    """The model: `forward` gives logits and a cache, `generate` decodes greedily."""

    def __init__(self, config: MolmoConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_backbone = VisionBackbone(config)
        blocks = [
            Block(config.d_model, config.n_heads, causal=True) for _ in range(config.n_layers)
        ]
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.d_model),
                "blocks": nn.ModuleList(blocks),
                "ln_f": nn.LayerNorm(config.d_model),
                "ff_out": nn.Linear(config.d_model, config.vocab_size, bias=False),
            }
        )

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.transformer["ff_out"]

    def forward(
        self,
        input_ids: torch.Tensor,
        images: torch.Tensor | None = None,
        image_input_idx: torch.Tensor | None = None,
        past_key_values: Past | None = None,
    ) -> SimpleNamespace:
        states = self.transformer["wte"](input_ids)
        if images is not None and image_input_idx is not None:
            features = self.vision_backbone(images).flatten(1, 2)  # (B, C*T, D)
            places = image_input_idx.flatten(1)
            row, column = (places >= 0).nonzero(as_tuple=True)
            states[row, places[row, column]] += features[row, column]
        cache = Cache()
        blocks = cast("nn.ModuleList", self.transformer["blocks"])
        for index, block in enumerate(blocks):
            past = past_key_values[index] if past_key_values else None
            states, remembered = block(states, layer_past=past)
            cache.append(remembered)
        last = self.transformer["ln_f"](states[:, -1:])
        return SimpleNamespace(logits=self.transformer["ff_out"](last), past_key_values=cache)

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        images: torch.Tensor | None = None,
        image_input_idx: torch.Tensor | None = None,
        max_new_tokens: int = 8,
        *,
        output_logits: bool = False,
        return_dict_in_generate: bool = False,
    ) -> object:
        output = self(input_ids, images, image_input_idx)
        logits = [output.logits[:, -1]]
        tokens = [input_ids, logits[-1].argmax(-1, keepdim=True)]
        while len(tokens) <= max_new_tokens:
            output = self(tokens[-1], past_key_values=output.past_key_values)
            logits.append(output.logits[:, -1])
            tokens.append(logits[-1].argmax(-1, keepdim=True))
        sequences = torch.cat(tokens, dim=1)
        if not return_dict_in_generate:
            return sequences
        return SimpleNamespace(
            sequences=sequences,
            logits=tuple(logits) if output_logits else None,
            past_key_values=output.past_key_values,
        )


def rotated(states: torch.Tensor, start: int) -> torch.Tensor:
    """Return queries or keys turned by their positions, the first of which is `start`."""
    half = states.shape[-1] // 2
    frequencies = 10000.0 ** -(torch.arange(half) / half)
    angles = torch.outer(torch.arange(start, start + states.shape[2]).float(), frequencies)
    first, second = states.chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
