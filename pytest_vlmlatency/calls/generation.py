"""The generation settings in force, and the rule that follows from them for forwards and tokens.

The cache of past tokens: which kind generate() uses, and how much of a prompt it already holds.

A cache is known by what it is, an object that tells how many tokens it holds, and by no argument's
name: transformers has called it `past_key_values`, `cache_params` and `cache`. Owns reading a cache
that is passed in, or that the model is given; never makes or changes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

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


NO_CACHE = "none"


def is_cache(value: object) -> bool:
    """Whether a value is a cache of past tokens, of transformers' or of the same form."""
    return callable(getattr(value, "get_seq_length", None))


def find_cache(values: Iterable[object]) -> object | None:
    """Return the first cache among arguments, None without one."""
    return next((value for value in values if is_cache(value)), None)


def length_of_cache(cache: object) -> int:
    """Return how many tokens a cache holds, 0 for None."""
    return 0 if cache is None else int(cache.get_seq_length())  # type: ignore[attr-defined]  # see is_cache


def count_cached(named: Mapping[str, object]) -> int:
    """Return how many tokens a cache that was passed in already holds."""
    return length_of_cache(find_cache(named.values()))


def count_held_columns(
    named: Mapping[str, object], prompt: torch.Tensor | None, mask: torch.Tensor | None
) -> int:
    """Return how many columns of the prompt lie in the cache: none where only new ones are passed.

    A mask wider than the prompt says so. Without a mask, the prompt is taken for all of it.
    """
    n_cached = count_cached(named)
    if prompt is None or n_cached >= prompt.shape[1]:
        return 0
    is_wider = mask is not None and mask.shape[-1] != prompt.shape[1]
    return 0 if is_wider else n_cached


def kind_of_filled_cache(values: Iterable[object]) -> str:
    """Return the kind of the cache among a module's arguments, "" where none holds any token.

    What keeps no positions, such as the states of linear attention, does not tell its length.
    """
    cache = find_cache(values)
    try:
        is_filled = length_of_cache(cache) > 0
    except ValueError:
        is_filled = True
    return _kind_of_cache(cache) if is_filled else ""


def _kind_of_cache(cache: object) -> str:
    """Return a cache's kind in a word or two, such as "dynamic" or "offloaded static"."""
    own = getattr(cache, "self_attention_cache", cache)  # an encoder-decoder has two
    name = type(own).__name__.removesuffix("Cache").lower() or "plain"
    is_offloaded = bool(getattr(own, "offloading", False)) and "offloaded" not in name
    return f"offloaded {name}" if is_offloaded else name


def asked_cache(settings: Mapping[str, Scalar]) -> str:
    """Return the kind of cache that the settings ask for, "" for the model's own."""
    if settings.get("use_cache") is False:
        return NO_CACHE
    return str(settings.get("cache_implementation") or "").replace("_", " ")


def is_kind(found: str, asked: str) -> bool:
    """Whether a cache is of the kind that was asked for; "offloaded" alone means a dynamic one."""
    return found in (asked, f"{asked} dynamic")
