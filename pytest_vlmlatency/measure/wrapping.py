"""Modules around a model: whose configuration is in force, and which of them generates.

A wrapper is told by its structure: it has no configuration, and all parameters are those of one
child. Owns looking through it; which methods are called, and when, is not its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def configured_part(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module whose `config` says what a model is: itself, or the one it wraps.

    The model itself where no module inside has all of its parameters and a configuration.
    """
    part: torch.nn.Module | None = model
    while part is not None:
        if getattr(part, "config", None) is not None:
            return part
        part = _wrapped(part)
    return model


def generating_parts(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the paths of the outermost modules inside a model that have a generate()."""
    found: list[str] = []
    for path, module in model.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in found)
        if path and not is_inside and callable(getattr(module, "generate", None)):
            found.append(path)
    return tuple(found)


def _wrapped(wrapper: torch.nn.Module) -> torch.nn.Module | None:
    """Return the child that has all of a module's parameters, None where they are spread."""
    parameters = {id(parameter) for parameter in wrapper.parameters()}
    for child in wrapper.children():
        if parameters and parameters == {id(parameter) for parameter in child.parameters()}:
            return child
    return None
