"""Which tensors inside a model are the pixels that were passed to its generate()."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Mark = tuple[float, ...]
"""Sizes but those of 1, and a sum weighted by position: equal marks, equal pixels."""
IMAGE_DIMS = 3


class Recognition:
    """Knows pixels by their memory, or by their shape after a cast or a copy.

    `n_given` is how often each image was passed, by its mark.
    """

    def __init__(self, pixels: Sequence[torch.Tensor]) -> None:
        self._storages = {tensor.untyped_storage().data_ptr() for tensor in pixels}
        self._shapes = {tuple(tensor.shape) for tensor in pixels}
        self._images = {shape[-IMAGE_DIMS:] for shape in self._shapes if len(shape) > IMAGE_DIMS}
        self.n_given = Counter(_mark(image) for tensor in pixels for image in _images_of(tensor))

    def marks(self, inputs: Sequence[object]) -> tuple[Mark, ...]:
        """Return the mark of each tensor that is raw pixels, or some of them, or copies of them."""
        tensors = [value for value in inputs if isinstance(value, torch.Tensor) and value.numel()]
        return tuple(_mark(tensor) for tensor in tensors if self._knows(tensor))

    def _knows(self, tensor: torch.Tensor) -> bool:
        shape = tuple(tensor.shape)
        if tensor.untyped_storage().data_ptr() in self._storages:
            return True
        is_alike = shape in self._shapes or shape[-IMAGE_DIMS:] in self._images
        return tensor.is_floating_point() and is_alike


def _images_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what a model may encode by a call of its own: all of a batch, and each part of it."""
    if tensor.dim() <= IMAGE_DIMS or len(tensor) != 1:
        yield tensor
    if tensor.dim() > IMAGE_DIMS:
        for part in tensor:
            yield from _images_of(part)


def _mark(tensor: torch.Tensor) -> Mark:
    values = tensor.detach().cpu().double().flatten()  # MPS has no double
    weights = torch.arange(1, len(values) + 1, dtype=values.dtype)
    return (*(size for size in tensor.shape if size > 1), float(values @ weights))
