"""Phases that the user names by hand: `phases={"vision": ..., "blocks": ..., "step": ...}`.

Owns turning names, modules, methods and functions of the model into paths. What is recorded of an
override are these paths, never the functions that gave them. Whatever is named is not searched for,
and no doubt about it is raised: naming the phases is the way out where they cannot be found.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.handles import TOGETHER
from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from pytest_vlmlatency.options import PhaseOverride

EXPECTED = (
    "expected a path of model.named_modules(), a module of the model, a method of one, or a "
    "function of the model that returns one of these or a list of them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What was named, as paths; None where it is left to be found.

    A method is the path of its module and its own name; several that are the step together have
    their names joined. `vision_methods` are those that are vision,
    `methods` those among `blocks` and `step`.
    """

    vision: tuple[str, ...] | None = None
    vision_methods: tuple[str, ...] = ()
    blocks: tuple[str, ...] | None = None
    step: str | None = None
    methods: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to be found."""
        return None not in (self.vision, self.blocks, self.step)


def read_override(model: torch.nn.Module, override: PhaseOverride) -> Named:
    """Return the paths that are named, a list of blocks as its members.

    Raises UsageProblem for an unknown path, with near ones, and for what is no part of the model.
    """
    found = {key: _Parts(model, key).of(value) for key, value in override.items()}
    blocks = tuple(map(_label, found.get("blocks", ())))
    if len(blocks) == 1 and not found["blocks"][0][1]:
        blocks = _members(model, blocks[0])
    step = _together(found.get("step", []))
    if ("blocks" in override and not blocks) or ("step" in override and len(step) != 1):
        is_blocks = "blocks" in override and not blocks
        key, n_named = ("blocks", len(blocks)) if is_blocks else ("step", len(step))
        raise UsageProblem(f"phases={{{key!r}: {override[key]!r}}} names {n_named} modules")
    vision = found.get("vision", ())
    methods = (
        *(label for label, is_method in step if is_method),
        *(_label(part) for part in found.get("blocks", ()) if part[1]),
    )
    return Named(
        vision=tuple(path for path, method in vision if not method) if "vision" in found else None,
        vision_methods=tuple(_label(part) for part in vision if part[1]),
        blocks=blocks or None,
        step=step[0][0] if step else None,
        methods=tuple(dict.fromkeys(methods)),
    )


def _together(parts: list[tuple[str, str]]) -> list[tuple[str, bool]]:
    """Return the labels of a step, and whether each is of methods: several methods have one.

    A loop may have one method for the prompt and another one for each token.
    """
    labels = list(dict.fromkeys(map(_label, parts)))
    if labels and all(method for _path, method in parts):
        return [(TOGETHER.join(labels), True)]
    return [(_label(part), bool(part[1])) for part in dict.fromkeys(parts)]


def _label(part: tuple[str, str]) -> str:
    path, method = part
    return f"{path}.{method}".lstrip(".") if method else path


def _members(model: torch.nn.Module, path: str) -> tuple[str, ...]:
    """Return the blocks that a single module means: those that it lists, or itself."""
    module = model.get_submodule(path)
    names = [name for name, _ in module.named_children()]
    is_list = isinstance(module, torch.nn.ModuleList | torch.nn.Sequential | torch.nn.ModuleDict)
    if is_list or (len(names) > 1 and len({type(child) for child in module.children()}) == 1):
        return tuple(f"{path}.{name}".lstrip(".") for name in names)
    return (path,)


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
        if getattr(owner, name, None) != method:
            raise UsageProblem(
                f"phases= names a method for {self._key} that {type(owner).__name__} has under "
                f"another name than {name!r}, its own; expected one that the model calls by its "
                f"own name"
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
