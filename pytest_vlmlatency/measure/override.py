"""Phases that the user names by hand: `phases={"vision": ..., "blocks": ..., "step": ...}`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from pytest_vlmlatency.options import PhaseOverride

HOW_TO_NAME = (
    'name them by hand: phases={"vision": ["vision_tower", "projector"], "blocks": "model.layers", '
    '"step": ""} with paths of model.named_modules() ("" is the model itself)'
)


def read_override(model: torch.nn.Module, override: PhaseOverride) -> Mapping[str, tuple[str, ...]]:
    """Return the named paths, a list of blocks as its children; unknown paths are errors."""
    known = dict(model.named_modules())
    named: dict[str, tuple[str, ...]] = {}
    for key, value in override.items():
        paths = (value,) if isinstance(value, str) else tuple(value)
        for path in paths:
            _check_path(path, known, key)
        if key == "blocks" and len(paths) == 1:
            paths = tuple(f"{paths[0]}.{name}" for name, _ in known[paths[0]].named_children())
        has_too_few = not paths and key != "vision"  # a call may have no vision at all
        if has_too_few or (key == "step" and len(paths) != 1):
            raise UsageProblem(f"phases={{{key!r}: {value!r}}} names {len(paths)} modules")
        named[key] = paths
    return named


def _check_path(path: str, known: Mapping[str, torch.nn.Module], key: str) -> None:
    if path not in known:
        near = get_close_matches(path, known, n=3, cutoff=0.4)
        hint = f"; near matches: {', '.join(map(repr, near))}" if near else ""
        raise UsageProblem(f"phases= names {path!r} for {key}, which the model does not have{hint}")
