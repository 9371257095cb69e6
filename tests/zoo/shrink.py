"""One rule that makes any default configuration tiny; it knows sizes, and no architecture.

Numbers are replaced by name, section by section (a section whose name speaks of vision gets the
vision sizes). Lists as long as a section is deep describe its layers one by one: they are dropped,
so that the configuration derives them anew. What the rule can't know is said by `overrides`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo.earlier import default_config, override, with_parts

TEXT_WIDTH = 64
VISION_WIDTH = 32
DEPTH = 4
IMAGE_SIZE = 32
PATCH_SIZE = 8
VOCABULARY = 300
# Ids below are ordinary words, ids above stand for images, videos and their borders.
N_WORDS = 200
FIRST_WORD = 3
PAD, BOS, EOS = 0, 1, 2

_SHARED_SIZES = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_heads": 4,
    "attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
}
_TEXT_SIZES = _SHARED_SIZES | {
    "hidden_size": TEXT_WIDTH,
    "d_model": TEXT_WIDTH,
    "embed_dim": TEXT_WIDTH,
    "word_embed_proj_dim": TEXT_WIDTH,
    "intermediate_size": 2 * TEXT_WIDTH,
    "moe_intermediate_size": TEXT_WIDTH,
    "shared_expert_intermediate_size": TEXT_WIDTH,
    "ffn_dim": 2 * TEXT_WIDTH,
    "encoder_ffn_dim": 2 * TEXT_WIDTH,
    "decoder_ffn_dim": 2 * TEXT_WIDTH,
    "num_hidden_layers": DEPTH,
    "layers": DEPTH,
    "encoder_layers": 2,
    "decoder_layers": DEPTH,
    "num_key_value_heads": 2,
    "head_dim": TEXT_WIDTH // 4,
    "projection_dim": TEXT_WIDTH,
    "projector_hidden_size": TEXT_WIDTH,
    "projection_hidden_size": TEXT_WIDTH,
    "out_hidden_size": TEXT_WIDTH,
    "output_dim": TEXT_WIDTH,
    "sliding_window": 256,
    # Low-rank attention, linear attention, and the choice of what to attend to.
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "index_head_dim": 16,
    "index_n_heads": 4,
    "index_topk": 64,
}
_VISION_SIZES = _SHARED_SIZES | {
    "hidden_size": VISION_WIDTH,
    "embed_dim": VISION_WIDTH,
    "encoder_hidden_size": VISION_WIDTH,
    "intermediate_size": 2 * VISION_WIDTH,
    "num_hidden_layers": 2,
    "depth": 2,
    "num_key_value_heads": 4,
    "head_dim": VISION_WIDTH // 4,
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "num_position_embeddings": (IMAGE_SIZE // PATCH_SIZE) ** 2,
    "out_hidden_size": TEXT_WIDTH,
    "text_hidden_size": TEXT_WIDTH,
    "projection_dim": TEXT_WIDTH,
}
_VISION_SECTIONS = ("vision", "qformer", "adapter", "vit", "vq", "encoder", "sam")
_DEPTH_NAMES = ("num_hidden_layers", "depth", "decoder_layers")
_FIXED_IDS = {
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "decoder_start_token_id": BOS,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
}
_ID_SUFFIXES = ("_token_id", "_token_index", "_patch_id")


def build_tiny_config(
    model_type: str,
    overrides: Mapping[str, object],
    *,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> PreTrainedConfig:
    """Return the architecture's default configuration, shrunk, then overridden by dotted key.

    `parts` names architectures whose default configurations stand in for sections.
    """
    default = default_config(model_type)
    sections = default.to_dict()
    sections |= {name: default_config(part).to_dict() for name, part in parts.items()}
    for section, name in _sections(sections, name="root"):
        _shrink(section, is_vision=any(word in name for word in _VISION_SECTIONS))
    _number_special_tokens(sections)
    for key, value in overrides.items():
        _override(sections, key.split("."), value)
    return with_parts(type(default).from_dict(sections), sections, parts)


def count_decoder_blocks(config: PreTrainedConfig) -> int:
    """Return the number of blocks that each decode step runs through."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    # An encoder-decoder's `num_hidden_layers` counts its encoder.
    names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "n_layers")
    return int(next(getattr(text, name) for name in names if hasattr(text, name)))


def _sections(section: dict[str, object], name: str) -> list[tuple[dict[str, object], str]]:
    """Return a configuration's dictionaries with their names, outermost first."""
    found = [(section, name)]
    for key, value in section.items():
        if isinstance(value, dict) and "model_type" in value:
            found += _sections(value, key)
    return found


def _shrink(section: dict[str, object], *, is_vision: bool) -> None:
    """Replace the sizes of one section in place, and drop its lists of one entry per layer."""
    depths = [section[name] for name in _DEPTH_NAMES if name in section]
    sizes = _VISION_SIZES if is_vision else _TEXT_SIZES
    for key, value in list(section.items()):
        n_items = len(value) if isinstance(value, list | tuple) else None
        if n_items is not None and n_items in depths:
            del section[key]
        elif key in sizes and value is not None:
            section[key] = sizes[key] if n_items is None else [sizes[key]] * n_items
    # It names layers that are no more; without it, a configuration derives it anew.
    section.pop("per_layer_config", None)
    # Tied to its input, a random head says the last token again.
    section["tie_word_embeddings"] = False


def _number_special_tokens(sections: dict[str, object]) -> None:
    """Give every special token an id inside the vocabulary, the same one in every section."""
    every_section = [section for section, _ in _sections(sections, name="root")]
    names = sorted({key for section in every_section for key in section if _is_special(key)})
    ids = {name: VOCABULARY - 1 - index for index, name in enumerate(names)} | _FIXED_IDS
    for section in every_section:
        for key in section.keys() & ids.keys():
            section[key] = ids[key]


def _is_special(key: str) -> bool:
    return key.endswith(_ID_SUFFIXES) and key not in _FIXED_IDS


def _override(section: object, path: list[str], value: object) -> None:
    assert isinstance(section, dict), f"{path[0]} isn't inside a section of the configuration"
    if len(path) == 1:
        override(section, path[0], value)
    else:
        _override(section[path[0]], path[1:], value)
