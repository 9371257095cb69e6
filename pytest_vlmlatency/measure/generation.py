"""The generation settings in force, and the rule that follows from them for forwards and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.records import Scalar

GENERATION_KEYS = (
    "max_new_tokens",
    "min_new_tokens",
    "max_length",
    "do_sample",
    "num_beams",
    "num_return_sequences",
    "use_cache",
    "cache_implementation",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "use_mtp",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
    "guidance_scale",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "eos_token_id",
    "pad_token_id",
)
"""The settings that are stored; others (a hub token, a prompt) are nobody's business."""


DRAFTING = ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
"""Settings that draft tokens without a further model."""
MOVED = ("penalty_alpha", "dola_layers", "force_words_ids", "constraints")
"""Settings of ways to decode that transformers fetches from repositories of their own."""


class Mode(StrEnum):
    """How generate() decodes, as far as it decides how forwards and tokens agree."""

    GREEDY = "greedy"
    SAMPLE = "sample"
    BEAM = "beam"
    ASSISTED = "assisted"
    GUIDED = "guided"
    CUSTOM = "custom"


def read_settings(model: object, named: Mapping[str, object]) -> dict[str, Scalar]:
    """Return the generation settings in force: the call's, its generation_config's, the model's."""
    layers = [named, _vars_of(named.get("generation_config"))]
    layers.append(_vars_of(getattr(model, "generation_config", None)))
    keys = {key for layer in layers for key in layer if not key.startswith("_")}
    merged: dict[str, Scalar] = {}
    for key in sorted(keys):
        found = next((layer[key] for layer in layers if layer.get(key) is not None), None)
        if isinstance(found, str | int | float | bool):
            merged[key] = found
        elif key == "eos_token_id" and isinstance(found, Iterable):
            merged[key] = ",".join(str(int(value)) for value in found)
    return merged


def _vars_of(value: object) -> Mapping[str, object]:
    """Return an object's attributes, empty for None."""
    return vars(value) if hasattr(value, "__dict__") else {}


def read_mode(settings: Mapping[str, Scalar], named: Mapping[str, object]) -> Mode:
    """Return how the call will decode."""
    has_groups = int(settings.get("num_beam_groups") or 1) > 1
    is_moved = has_groups or any(named.get(key) or settings.get(key) for key in MOVED)
    if named.get("custom_generate") is not None or is_moved:
        return Mode.CUSTOM
    is_beam_search = has_beams(settings)
    is_drafting = named.get("assistant_model") is not None or any(map(settings.get, DRAFTING))
    if is_drafting and not is_beam_search:  # with beams, an assistant is ignored
        return Mode.ASSISTED
    if float(settings.get("guidance_scale") or 1) > 1:
        return Mode.GUIDED
    if is_beam_search:
        return Mode.BEAM
    return Mode.SAMPLE if settings.get("do_sample") else Mode.GREEDY


def has_beams(settings: Mapping[str, Scalar]) -> bool:
    """Whether each row is searched for by several beams."""
    return int(settings.get("num_beams") or 1) > 1


def count_prompt_forwards(settings: Mapping[str, Scalar], n_columns: int) -> int:
    """Return how many forwards a prompt takes: more than one where its prefill is chunked."""
    chunk = settings.get("prefill_chunk_size")
    return -(-n_columns // int(chunk)) if chunk else 1


def read_eos_ids(settings: Mapping[str, Scalar]) -> frozenset[int]:
    """Return the tokens that end a row."""
    value = settings.get("eos_token_id")
    if value is None:
        return frozenset()
    return frozenset(int(part) for part in str(value).split(","))
