"""What decides where a model's phases are, as far as it can be read off the model: its fingerprint.

Of each module its path, type, plain attributes (the training flag among them), instance attributes
that stand over methods, the names of its hooks, and the shapes of its tensors; of configurations,
what they say. Two models of equal fingerprints do the same, unless something decides that is not
here: a tensor's values, what a closure, a global or another object holds, a method replaced in a
class. Whoever relies on a fingerprint must look again (`discovery` does, in the rehearsal).

The kind of one call of generate(): what of its arguments decides where phases are.

Names, types, shapes of images, the batch size, how tokens are chosen: all of it, but neither how
long the text is nor how many tokens are asked for. An argument that may decide and cannot be told
by its value makes the call one of its own kind, `UnknownKind`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.arguments import find_pixels, function_of, name_arguments
from pytest_vlmlatency.calls.generation import is_cache, length_of_cache
from pytest_vlmlatency.calls.interception import BATCHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pytest_vlmlatency.calls.workload import Inputs


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


LENGTHS = ("max_length", "min_length", "max_new_tokens", "min_new_tokens")
"""How many tokens are asked for."""
MAX_VALUES = 64
"""A whole-numbered tensor of so many values may say how images are cut, so its values count."""


class UnknownKind(Exception):
    """An argument that cannot be told by its value; the message names it."""


def call_kind(
    original: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    inputs: Inputs,
) -> Form:
    """Return what equals another call's where phases are alike, or raise UnknownKind."""
    named = name_arguments(original, args, kwargs)
    shape = None if inputs.input_ids is None else inputs.input_ids.shape
    arguments = tuple(
        (name, _form(name, value, shape))
        for name, value in sorted(named.items())
        if name not in LENGTHS
    )
    settings = {key: value for key, value in inputs.settings.items() if key not in LENGTHS}
    counts = (inputs.batch_size, inputs.n_prompt_forwards, *_flags(inputs))
    return id(function_of(original)), arguments, tuple(settings.items()), inputs.mode, counts


def kind_in_words(
    original: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
    inputs: Inputs,
) -> str:
    """Return the images of a call by name and shape, and how it decodes."""
    images = find_pixels(name_arguments(original, args, kwargs))
    shown = [f"{name} {inputs.shapes.get(name, '')}".strip() for name in images]
    return ", ".join([*(shown or ["text alone"]), str(inputs.mode)])


def _flags(inputs: Inputs) -> tuple[bool, ...]:
    return (
        inputs.n_prompt_columns > 1,
        inputs.n_cached > 0,
        inputs.n_placeholders > 0,
        inputs.is_encoder_decoder,
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )


def _form(name: str, value: object, prompt: torch.Size | None) -> Form:
    if type(value) in PLAIN:
        return form_of(value, {})
    if isinstance(value, torch.Tensor):
        return _tensor_form(value, prompt)
    if isinstance(value, list | tuple):
        return type(value), *(_form(name, item, prompt) for item in value)
    if isinstance(value, Mapping):
        return tuple((str(key), _form(name, item, prompt)) for key, item in value.items())
    if is_cache(value) and not getattr(value, "is_compileable", False):
        return type(value), length_of_cache(value) > 0
    if name.endswith("config") and hasattr(value, "to_dict"):
        return _without_lengths(value)
    module = type(value).__module__.partition(".")[0]
    if module in ("PIL", "numpy"):
        return type(value), str(getattr(value, "mode", "")), _size(value)
    raise UnknownKind(f"{name} holds a {type(value).__name__}")


def _tensor_form(tensor: torch.Tensor, prompt: torch.Size | None) -> Form:
    """Return the sizes of a tensor but the prompt's length, and a few whole numbers themselves."""
    if prompt is not None and 2 <= tensor.dim() <= 3 and tensor.shape[:2] == prompt:
        return tensor.dtype, tensor.shape[0], tensor.shape[2:]
    values: Form = ()
    if not tensor.is_floating_point() and tensor.numel() <= MAX_VALUES:
        values = tuple(tensor.flatten().tolist())
    return tensor.dtype, tensor.shape, values


def _without_lengths(config: object) -> Form:
    kept = {name: value for name, value in vars(config).items() if name not in LENGTHS}
    return type(config), *form_of(kept, {})


def _size(value: object) -> Form:
    """Return the sizes of an array, or of a picture."""
    return tuple(getattr(value, "shape", getattr(value, "size", ())))
