"""The arguments of a call by name, and their shapes as text. Only shapes are ever stored.

Which arguments of generate() are images: tensors, arrays or pictures, alone or in containers.

Owns telling pixels from other arguments, by kind, shape and name; a model's own names are its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.generation import is_cache, length_of_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def name_arguments(
    generate: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments of a call by name; a mapping passed as one argument is opened."""
    try:
        signature = inspect.signature(generate)
        bound = signature.bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return {f"argument_{index}": value for index, value in enumerate(args)} | dict(kwargs)
    named: dict[str, object] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"argument_{index}": item for index, item in enumerate(value)})
        elif isinstance(value, Mapping):
            named.update(value)
        else:
            named[name] = value
    return {
        name: value for name, value in named.items() if value is not None and not is_empty(value)
    }


def is_empty(value: object) -> bool:
    """Whether a value holds nothing to work on: no elements, or a container of such values alone.

    Processors fill in what was not given with tensors of no elements, or of no images.
    """
    if isinstance(value, torch.Tensor):
        return value.numel() == 0
    if isinstance(value, Mapping):
        return all(is_empty(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_empty(item) for item in value)
    return type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "size", 1) == 0


def is_given_nothing(args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether a call inside a model was given tensors, and the first of them are empty."""
    tensors = [it for it in (*args, *kwargs.values()) if isinstance(it, torch.Tensor)]
    return bool(tensors) and tensors[0].numel() == 0


def find_mask(named: Mapping[str, object], prompt: torch.Tensor | None) -> torch.Tensor | None:
    """Return the mask that tells a prompt's tokens from its padding, None without one.

    By its usual name, or else what is one: as many rows as the prompt, at least as wide, and zero
    at one end of a row only, where all tokens of the prompt are the same.
    """
    usual = named.get("attention_mask")
    if isinstance(usual, torch.Tensor) or prompt is None:
        return usual if isinstance(usual, torch.Tensor) else None
    masks = [value for name, value in named.items() if "mask" in name]
    return next(
        (it for it in masks if isinstance(it, torch.Tensor) and _tells_padding(it, prompt)), None
    )


def _tells_padding(mask: torch.Tensor, prompt: torch.Tensor) -> bool:
    is_as_large = mask.dim() == 2 and len(mask) == len(prompt) and mask.shape[1] >= prompt.shape[1]
    if not (is_as_large and mask.numel()) or mask.is_floating_point():
        return False
    if not bool(((mask == 0) | (mask == 1)).all()):
        return False
    kept = mask.bool()
    n_changes = (kept[:, 1:] != kept[:, :-1]).sum(1)
    has_one_end = bool((kept.any(1) & (n_changes <= 1)).all())
    padding = prompt[~kept[:, -prompt.shape[1] :].to(prompt.device)]
    return has_one_end and bool((padding == padding[:1]).all())


def function_of(generate: Callable[..., object]) -> Callable[..., object]:
    """Return the function that a bound method or a decorated function stands for."""
    function: Callable[..., object] = inspect.unwrap(getattr(generate, "__func__", generate))
    return function


def shape_of(value: object) -> str | None:
    """Return a tensor's dtype and sizes as text, a cache's length, a list's shapes; else None."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if is_cache(value):
        return f"cache[{length_of_cache(value)}]"
    if isinstance(value, list | tuple) and value and isinstance(value[0], torch.Tensor):
        return "; ".join(str(shape_of(item)) for item in value)
    return None


PIXEL_WORDS = ("pixel", "image", "video", "patch")
NOT_PIXELS = (
    "mask",
    "embeds",
    "embedding",
    "position",
    "cache",
    "past",
    "bias",
    "states",
    "outputs",
    "features",
    "bbox",
)
"""Words in the names of tensors that may have the shape of pixels and are none."""
MIN_DIMS = 3
"""An image without a name to tell it by has height, width and channels."""
MAX_DEPTH = 6
"""Of containers: a conversation of several turns keeps its images four deep."""


def find_pixels(named: Mapping[str, object]) -> dict[str, list[object]]:
    """Return the images among the arguments of a call, by argument."""
    found = {
        name: [value for value in _leaves(argument, MAX_DEPTH) if _is_image(name, value)]
        for name, argument in named.items()
        if not any(word in name for word in NOT_PIXELS)
    }
    return {name: values for name, values in found.items() if values}


def tensors_of(pixels: Mapping[str, Sequence[object]]) -> tuple[torch.Tensor, ...]:
    """Return the tensors among the images: those that can be recognised inside the model."""
    return tuple(
        value for values in pixels.values() for value in values if isinstance(value, torch.Tensor)
    )


def _leaves(value: object, depth: int) -> Iterator[object]:
    if depth and isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, depth - 1)
    elif depth and isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item, depth - 1)
    else:
        yield value


def _is_image(name: str, value: object) -> bool:
    if is_empty(value):
        return False
    is_named = any(word in name for word in PIXEL_WORDS)
    if isinstance(value, torch.Tensor):
        return value.dim() >= MIN_DIMS or (is_named and value.is_floating_point())
    module = type(value).__module__.partition(".")[0]
    if module == "numpy":
        return getattr(value, "ndim", 0) >= (MIN_DIMS - is_named)
    return module == "PIL"


SOUND_WORDS = ("audio", "speech", "waveform", "input_features")
"""In the names of tensors that are sound; transformers calls a spectrogram input_features."""


def find_sounds(named: Mapping[str, object]) -> list[str]:
    """Return the arguments that are sound, by their names; a flag or a path's name is none."""
    return [
        name
        for name, value in named.items()
        if any(word in name for word in SOUND_WORDS)
        and not isinstance(value, str | int | float | bool)
    ]
