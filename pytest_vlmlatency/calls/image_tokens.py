"""Where a prompt says that an image goes: placeholder tokens, or a mask beside the prompt.

How many vectors an image was made into: by an entry into vision, or before the call.

Owns counting them, and finding those that a call is given ready-made. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_vlmlatency.calls.workload import Inputs


NO_MARKS = ("input_ids", "inputs", "attention_mask", "position_ids")
PLACEHOLDER_KEYS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def placeholder_ids(config: object) -> frozenset[int]:
    """Return the tokens that stand for an image, by the model's configuration or a part of it."""
    parts = [part for part in getattr(config, "__dict__", {}).values() if hasattr(part, "to_dict")]
    values = (getattr(part, key, None) for part in (config, *parts) for key in PLACEHOLDER_KEYS)
    return frozenset(value for value in values if isinstance(value, int))


def find_placeholders(
    model: torch.nn.Module, prompt: torch.Tensor | None, ids: Iterable[int]
) -> torch.Tensor | None:
    """Return which positions of a prompt stand for an image, None without any prompt.

    In a prompt of embeddings these are the placeholders' own, as transformers itself tells them.
    """
    if prompt is None:
        return None
    marked = torch.zeros(prompt.shape[:2], dtype=torch.bool, device=prompt.device)
    for value in ids:
        if prompt.dim() == 2:
            marked |= prompt == value
        else:
            marked |= (prompt == _embedding(model, value, prompt.device)).all(-1)
    return marked


@torch.no_grad()
def _embedding(model: torch.nn.Module, value: int, device: torch.device) -> torch.Tensor:
    embed = model.get_input_embeddings()  # type: ignore[operator]  # a method, not a module
    vector: torch.Tensor = embed(torch.tensor([value], device=device))
    return vector


def count_marked(named: Mapping[str, object], input_ids: torch.Tensor | None) -> frozenset[int]:
    """Return how many positions each mask beside the prompt marks."""
    if input_ids is None:
        return frozenset()
    return frozenset(
        int(value.count_nonzero())
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
        and value.shape == input_ids.shape
        and not value.is_floating_point()
        and name not in NO_MARKS
    )


def count_indexed(named: Mapping[str, object], input_ids: torch.Tensor | None) -> Mapping[int, int]:
    """Return, by the size of each tensor of places in the prompt, how many places it names.

    Such a tensor says where each vision feature goes; features with a negative place go nowhere.
    """
    if input_ids is None:
        return {}
    found = {}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor) or value.is_floating_point() or "position" in name:
            continue
        if value.dim() > input_ids.dim() and len(value) == len(input_ids):
            places = value.flatten(1).cpu()
            if _are_places(places, input_ids.shape[1]):
                found[places.numel()] = int((places >= 0).sum())
    return found


def _are_places(rows: torch.Tensor, length: int) -> bool:
    """Whether each row names some positions of a prompt, none of them twice."""
    valid = [row[row >= 0] for row in rows]
    return all(len(row) and len(row.unique()) == len(row) and row.max() < length for row in valid)


def check_placeholders(inputs: Inputs, pixel_names: Iterable[str]) -> None:
    """Raise where pixels and placeholders disagree, unless the image is known in another form."""
    is_elsewhere = inputs.n_feature_rows or "embeds" in inputs.labels or inputs.n_cached
    if not inputs.expects_placeholders or inputs.input_ids is None or is_elsewhere:
        return
    if inputs.has_pixels and not inputs.n_placeholders:
        raise UsageProblem(
            f"pixels were passed ({', '.join(sorted(pixel_names))}) but input_ids holds no image "
            f"placeholder token; expected one for each vision token: build both with the model's "
            f"processor from a prompt that names the image"
        )
    if inputs.n_placeholders and not inputs.has_pixels:
        raise UsageProblem(
            f"input_ids holds {inputs.n_placeholders} image placeholder tokens but no pixels were "
            f"passed; expected pixel_values beside them: the model would embed the placeholders "
            f"as text. Pass the processor's whole result, or a prompt without an image"
        )


def count_alike(input_ids: torch.Tensor, mask: torch.Tensor | None, n_features: int) -> int:
    """Return `n_features` if a token stands in the prompt just as often, else 0.

    Such a token is a placeholder that the model's configuration does not name. `mask` leaves
    padding out.
    """
    ids = input_ids if mask is None else input_ids[mask.bool().to(input_ids.device)]
    counts = Counter(ids.flatten().tolist()).values()
    return n_features if n_features in counts else 0


def has_repeated(input_ids: torch.Tensor) -> bool:
    """Whether a token follows itself somewhere, as placeholders of one image do."""
    return bool((input_ids[:, 1:] == input_ids[:, :-1]).any())


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
