"""Which tensors inside a model are the pixels that were passed to its generate().

Known by their memory or their sizes, or, where the model made them of the images by itself (it
resized, cut or padded them, or was given pictures), by what they are put into: a convolution over
as many channels.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

Mark = tuple[float, ...]
"""Sizes but those of 1, and a sum weighted by position: equal marks, equal pixels."""
IMAGE_DIMS = 3
MAX_CHANNELS = 4
"""Of an image; features have more."""


class Recognition:
    """Knows pixels by their memory, or by their shape after a cast or a copy.

    `n_given` is how often each image was passed, by its mark.
    """

    def __init__(self, pixels: Sequence[torch.Tensor]) -> None:
        self._storages = {tensor.untyped_storage().data_ptr() for tensor in pixels}
        self._shapes = {tuple(tensor.shape) for tensor in pixels}
        self._images = {shape[-IMAGE_DIMS:] for shape in self._shapes if len(shape) >= IMAGE_DIMS}
        self._n_made = 0
        self.n_given = Counter(_mark(image) for tensor in pixels for image in _images_of(tensor))

    def marks(self, inputs: Sequence[object], channels: Container[int] = ()) -> tuple[Mark, ...]:
        """Return the mark of each tensor that is raw pixels, or some of them, or made of them.

        `channels` are those that convolutions of the module take which was given the tensors. What
        only they tell is like no other: whether the model made the same twice is unknown.
        """
        tensors = [value for value in inputs if isinstance(value, torch.Tensor) and value.numel()]
        known = tuple(_mark(tensor) for tensor in tensors if self._knows(tensor))
        if known or not any(_is_made_of_images(tensor, channels) for tensor in tensors):
            return known
        self._n_made += 1
        return ((float(self._n_made),),)

    def _knows(self, tensor: torch.Tensor) -> bool:
        shape = tuple(tensor.shape)
        if tensor.untyped_storage().data_ptr() in self._storages:
            return True
        is_alike = shape in self._shapes or shape[-IMAGE_DIMS:] in self._images
        return tensor.is_floating_point() and is_alike


def channels_of(module: torch.nn.Module) -> frozenset[int]:
    """Return how many channels of images the convolutions inside a module take."""
    convolutions = (torch.nn.Conv2d, torch.nn.Conv3d)
    taken = {it.in_channels for it in module.modules() if isinstance(it, convolutions)}
    return frozenset(n for n in taken if n <= MAX_CHANNELS)


def _is_made_of_images(tensor: torch.Tensor, channels: Container[int]) -> bool:
    is_stack = tensor.dim() > IMAGE_DIMS and tensor.is_floating_point()
    return is_stack and any(size in channels for size in tensor.shape[-IMAGE_DIMS - 1 : -2])


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
