"""The cache of past tokens: which kind generate() uses, and how much of a prompt it already holds.

A cache is known by what it is, an object that tells how many tokens it holds, and by no argument's
name: transformers has called it `past_key_values`, `cache_params` and `cache`. Owns reading a cache
that is passed in, or that the model is given; never makes or changes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from pytest_vlmlatency.records import Scalar

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
