"""Phases that the user names by hand: `phases={"vision": ..., "blocks": ..., "step": ...}`.

Owns turning names, modules and functions of the model into paths. What is recorded of an override
are these paths, never the functions that gave them.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from pytest_vlmlatency.options import PhaseOverride

HOW_TO_NAME = (
    'name them by hand: phases={"vision": ["vision_tower", "projector"], "blocks": "model.layers", '
    '"step": ""} with paths of model.named_modules() ("" is the model itself), or functions of the '
    "model that return its modules"
)
EXPECTED = (
    "expected a path of model.named_modules(), a module of the model, a function of the model that "
    "returns one of these or a list of them, or for vision a method of the model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What was named, as paths; None where it is left to be found.

    `vision_methods` are methods that are vision, as the path of their module and their own name.
    """

    vision: tuple[str, ...] | None = None
    vision_methods: tuple[str, ...] = ()
    blocks: tuple[str, ...] | None = None
    step: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be found."""
        return None not in (self.vision, self.blocks, self.step)


def read_override(model: torch.nn.Module, override: PhaseOverride) -> Named:
    """Return the paths that are named, a list of blocks as its children.

    Raises UsageProblem for an unknown path, with near ones, and for what is no part of the model.
    """
    found = {key: _Parts(model, key).of(value) for key, value in override.items()}
    blocks = tuple(path for path, _ in found.get("blocks", ()))
    if len(blocks) == 1:
        children = model.get_submodule(blocks[0]).named_children()
        blocks = tuple(f"{blocks[0]}.{name}".lstrip(".") for name, _ in children)
    step = tuple(path for path, _ in found.get("step", ()))
    if ("blocks" in override and not blocks) or ("step" in override and len(step) != 1):
        key, paths = ("blocks", blocks) if "blocks" in override and not blocks else ("step", step)
        raise UsageProblem(f"phases={{{key!r}: {override[key]!r}}} names {len(paths)} modules")
    vision = found.get("vision", ())
    return Named(
        vision=tuple(path for path, method in vision if not method) if "vision" in found else None,
        vision_methods=tuple(f"{path}.{method}".lstrip(".") for path, method in vision if method),
        blocks=blocks or None,
        step=step[0] if step else None,
    )


class _Parts:
    """Finds parts of a model, for one key of an override: a path, and a method's name or ""."""

    def __init__(self, model: torch.nn.Module, key: str) -> None:
        self._model = model
        self._key = key
        self._modules = dict(model.named_modules(remove_duplicate=False))  # tied ones have several
        self._paths: dict[int, str] = {id(module): path for path, module in model.named_modules()}

    def of(self, value: object, *, is_returned: bool = False) -> list[tuple[str, str]]:
        """Return the parts that a value means; `is_returned` by a function of the model."""
        if isinstance(value, str):
            return [self._at(value)]
        if isinstance(value, torch.nn.Module):
            return [(self._path_of(value), "")]
        if isinstance(value, list | tuple):
            return [part for item in value for part in self.of(item, is_returned=is_returned)]
        owner = getattr(value, "__self__", None)
        if isinstance(owner, torch.nn.Module):
            return [self._method(owner, str(getattr(value, "__name__", "")), value)]
        if callable(value) and not is_returned:
            return self.of(value(self._model), is_returned=True)
        source = "a function that returned " if is_returned else ""
        raise UsageProblem(f"phases= names {source}{value!r} for {self._key}; {EXPECTED}")

    def _at(self, path: str) -> tuple[str, str]:
        """Return the part at a path; a method's path ends in its name."""
        if path in self._modules:
            return self._path_of(self._modules[path]), ""
        outer, _, name = path.rpartition(".")
        owner = self._modules.get(outer)
        if owner is not None and name and callable(getattr(owner, name, None)):
            return self._method(owner, name, getattr(owner, name))
        near = get_close_matches(path, self._modules, n=3, cutoff=0.4)
        hint = f"; near matches: {', '.join(map(repr, near))}" if near else ""
        raise UsageProblem(
            f"phases= names {path!r} for {self._key}, which the model does not have{hint}"
        )

    def _method(self, owner: torch.nn.Module, name: str, method: object) -> tuple[str, str]:
        path = self._path_of(owner)
        if self._key != "vision":
            raise UsageProblem(
                f"phases= names the method {name}() for {self._key}; expected modules: only vision "
                f"may be a method"
            )
        if getattr(owner, name, None) != method:
            raise UsageProblem(
                f"phases= names a method for vision that {type(owner).__name__} has under another "
                f"name than {name!r}, its own; expected one that the model calls by its own name"
            )
        return path, name

    def _path_of(self, module: torch.nn.Module) -> str:
        path = self._paths.get(id(module))
        if path is None:
            raise UsageProblem(
                f"phases= names a {type(module).__name__} for {self._key} that is outside the "
                f"model {type(self._model).__name__}; {EXPECTED}"
            )
        return path
