"""The kind of one call of generate(): what of its arguments decides where phases are.

Names, types, shapes of images, the batch size, how tokens are chosen: all of it, but neither how
long the text is nor how many tokens are asked for. An argument that may decide and cannot be told
by its value makes the call one of its own kind, `UnknownKind`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.measure.arguments import function_of, name_arguments
from pytest_vlmlatency.measure.fingerprint import PLAIN, Form, form_of
from pytest_vlmlatency.measure.past import is_cache, length_of_cache
from pytest_vlmlatency.measure.pixels import find_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.workload import Inputs

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
