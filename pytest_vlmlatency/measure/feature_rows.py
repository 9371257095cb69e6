"""How many vectors an image was made into: by an entry into vision, or before the call.

Owns counting them, and finding those that a call is given ready-made. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

FEATURE_DIMS = (2, 3, 4)
"""Of (N, D), the vectors of all images, (B, N, D), or (B, images, N, D)."""
MIN_WIDTH = 8
"""Narrower ones are sizes or coordinates."""
NO_FEATURES = ("inputs_embeds", "mask", "position", "past", "cache", "bias", "bbox", "decoder")
"""Words in the names of other arguments: the prompt's, and what goes with it."""


def features_of(output: object) -> object:
    """Return what a feature method gave for the decoder: its pooler_output, or all of it."""
    return getattr(output, "pooler_output", output)


def states_of(output: object) -> object:
    """Return a vision module's states; its pooler_output may be one vector for each image."""
    return getattr(output, "last_hidden_state", output)


def count_feature_rows(features: object) -> int:
    """Return how many vectors vision gave: (..., D) -> the product of the leading sizes.

    In a sequence, what is unlike the first part stands beside the features and is none.
    """
    if isinstance(features, torch.Tensor):
        return features.numel() // features.shape[-1] if features.numel() else 0
    if isinstance(features, Mapping):
        return count_feature_rows(next(iter(features.values()), None))
    if isinstance(features, Sequence) and not isinstance(features, str):
        return sum(count_feature_rows(part) for part in features if _is_like(part, features[0]))
    return 0


def _is_like(part: object, first: object) -> bool:
    if isinstance(part, torch.Tensor) and isinstance(first, torch.Tensor):
        return part.dim() == first.dim()
    return type(part) is type(first)


def find_features(
    named: Mapping[str, object], pixel_names: Collection[str], model: torch.nn.Module
) -> dict[str, object]:
    """Return the arguments that are features of images, whatever they are called.

    Their vectors are as wide as something in the model; alone, in a container, or as the states in
    a module's output.
    """
    likely = {
        name: _given(value)
        for name, value in named.items()
        if name not in pixel_names and not any(word in name for word in NO_FEATURES)
    }
    found = {name: value for name, value in likely.items() if _first_tensor(value) is not None}
    if not found:
        return {}
    widths = {size for weight in model.parameters() for size in weight.shape}
    return {name: value for name, value in found.items() if width_of(value) in widths}


def _given(value: object) -> object:
    """Return a module's states; of outputs by modality, what each gave for the decoder."""
    if isinstance(value, Mapping) and not hasattr(value, "last_hidden_state"):
        return [features_of(part) for part in value.values()]
    return states_of(value)


def _first_tensor(value: object) -> torch.Tensor | None:
    """Return what may be vectors, the first in a container; None for anything else."""
    if isinstance(value, torch.Tensor):
        is_vectors = value.is_floating_point() and value.dim() in FEATURE_DIMS
        return value if is_vectors and len(value) and value.shape[-1] >= MIN_WIDTH else None
    if isinstance(value, Mapping):
        return _first_tensor(next(iter(value.values()), None))
    if isinstance(value, list | tuple) and value:
        return _first_tensor(value[0])
    return None


def width_of(value: object) -> int:
    """Return how wide the vectors are that a value holds, 0 where it holds none."""
    vectors = _first_tensor(value)
    return 0 if vectors is None else vectors.shape[-1]
