"""The cache of past tokens: which kind generate() uses, and how much of a prompt it already holds.

Owns reading a cache that is passed in, or that the model is given; never makes or changes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.records import Scalar

NO_CACHE = "none"


def count_cached(named: Mapping[str, object]) -> int:
    """Return how many tokens a cache that was passed in already holds."""
    length = getattr(named.get("past_key_values"), "get_seq_length", None)
    return int(length()) if callable(length) else 0


def count_held_columns(named: Mapping[str, object], prompt: torch.Tensor | None) -> int:
    """Return how many columns of the prompt lie in the cache: none where only new ones are passed.

    A mask wider than the prompt says so. Without a mask, the prompt is taken for all of it.
    """
    mask, n_cached = named.get("attention_mask"), count_cached(named)
    if prompt is None or n_cached >= prompt.shape[1]:
        return 0
    is_wider = isinstance(mask, torch.Tensor) and mask.shape[-1] != prompt.shape[1]
    return 0 if is_wider else n_cached


def kind_of_cache(cache: object) -> str:
    """Return a cache's kind in a word or two, such as "dynamic" or "offloaded static"."""
    if cache is None:
        return NO_CACHE
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
