"""Where a prompt says that an image goes: placeholder tokens, or a mask beside the prompt."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_vlmlatency.measure.workload import Inputs

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
