"""How many vectors an entry into vision gave. Pure over its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


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
