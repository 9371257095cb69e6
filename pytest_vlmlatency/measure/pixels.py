"""Which arguments of generate() are images: tensors, arrays or pictures, alone or in containers.

Owns telling pixels from other arguments, by kind, shape and name; a model's own names are its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.measure.arguments import is_empty

if TYPE_CHECKING:
    from collections.abc import Sequence

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
