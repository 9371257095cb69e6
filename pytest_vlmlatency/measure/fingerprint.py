"""What decides where a model's phases are, as far as it can be read off the model: its fingerprint.

Of each module its path, type, plain attributes (the training flag among them), instance attributes
that stand over methods, the names of its hooks, and the shapes of its tensors; of configurations,
what they say. Two models of equal fingerprints do the same, unless something decides that is not
here: a tensor's values, what a closure, a global or another object holds, a method replaced in a
class. Whoever relies on a fingerprint must look again (`discovery` does, in the rehearsal).
"""

from __future__ import annotations

import functools
import inspect
from enum import Enum
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.measure.interception import BATCHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Form = tuple[object, ...]
"""What a value decides, as something that can be compared and hashed."""
Seen = dict[int, tuple[int, Form]]
"""Objects by their id: in which place they were met, and what they decide."""
PLAIN = frozenset({type(None), bool, int, float, str, bytes, torch.dtype, torch.device, torch.Size})
HOOK_TABLES = ("_forward_pre_hooks", "_forward_hooks")
SKIPPED = frozenset(vars(torch.nn.Module())) - {"training"} | {"generate", *BATCHING}
"""What every module has is looked at by itself; generate() is replaced for the time of a call, and
so is continuous batching."""
MAX_DEPTH = 4
MAX_ITEMS = 256
"""Of a longer list only the length counts: it is data, such as a vocabulary."""


def fingerprint(model: torch.nn.Module) -> Form:
    """Return what equals another model's where both do the same, as far as can be seen."""
    seen: Seen = {}
    states = tuple(_state(path, module, seen) for path, module in model.named_modules())
    return states, tuple(form for _, form in seen.values())


def form_of(value: object, seen: Seen, depth: int = MAX_DEPTH) -> Form:
    """Return a value as it decides: itself if plain, its parts, or its kind alone.

    Configurations, which many modules share, are kept in `seen`, and stand for their place there.
    """
    kind = type(value)
    if kind in PLAIN:
        return kind, value
    if isinstance(value, Enum):
        return kind, value.name
    if isinstance(value, torch.Tensor):
        return kind, value.shape
    if isinstance(value, list | tuple | set | frozenset | dict):
        return kind, len(value), *(_parts(value, seen, depth - 1) if depth else ())
    if hasattr(kind, "to_dict"):
        if id(value) not in seen:
            place = len(seen)
            seen[id(value)] = place, ()  # a configuration may hold itself
            seen[id(value)] = place, tuple(_parts(vars(value), seen, depth - 1) if depth else ())
        return kind, seen[id(value)][0]
    return kind, *_function_form(value, seen, depth)


def _function_form(value: object, seen: Seen, depth: int) -> Form:
    """Return which function a value is, nothing for other objects: what they hold is not seen."""
    if isinstance(value, functools.partial) and depth:
        parts = (value.func, value.args, value.keywords)
        return tuple(form_of(part, seen, depth - 1) for part in parts)
    function = getattr(value, "__func__", value)
    return (id(function),) if inspect.isroutine(function) or inspect.isclass(function) else ()


def _parts(values: Collection[object], seen: Seen, depth: int) -> Iterator[Form]:
    if len(values) > MAX_ITEMS:
        return
    if isinstance(values, dict):
        for key, value in values.items():
            yield str(key), form_of(value, seen, depth)
    else:
        for value in sorted(values, key=repr) if isinstance(values, set | frozenset) else values:
            yield form_of(value, seen, depth)


def _state(path: str, module: torch.nn.Module, seen: Seen) -> Form:
    attributes = vars(module)
    own = tuple(
        (name, type(value), value) if type(value) in PLAIN else (name, *form_of(value, seen))
        for name, value in attributes.items()
        if name not in SKIPPED and value is not None
    )
    hooks = [hook for table in HOOK_TABLES for hook in attributes[table].values()]
    return path, type(module), own, tuple(map(_name_of, hooks)), tuple(_shapes(module))


def _name_of(hook: object) -> Form:
    """Return what tells a hook: its name, since models of one class have copies of their own."""
    return getattr(hook, "__module__", None), getattr(hook, "__qualname__", type(hook))


def _shapes(module: torch.nn.Module) -> Iterator[Form]:
    for table in (module._parameters, module._buffers):
        for name, tensor in table.items():
            yield name, None if tensor is None else tensor.shape
