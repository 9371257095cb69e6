"""What one generate() was given: shapes, token counts, settings. Read before the clock starts.

Only shapes and counts are ever stored, never pixels or text.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.measure.generation import (
    GENERATION_KEYS,
    Mode,
    count_prompt_forwards,
    read_eos_ids,
    read_mode,
    read_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_vlmlatency.records import Scalar

PIXEL_WORDS = ("pixel", "image", "video", "patch")
NO_MARKS = ("input_ids", "inputs", "attention_mask", "position_ids")
PLACEHOLDER_KEYS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The arguments of one generate(). `n_prompt_columns` is the width of input_ids, padding in.

    `n_marked` are the numbers of positions that further inputs of the prompt's shape mark, as the
    masks do by which some models say where vision goes. `pixels` are the raw tensors themselves,
    kept to recognise them, never stored.
    """

    shapes: Mapping[str, str]
    settings: Mapping[str, Scalar]
    pixels: tuple[torch.Tensor, ...]
    input_ids: torch.Tensor | None
    batch_size: int
    n_prompt_columns: int
    n_prompt_tokens: int
    n_placeholders: int
    n_marked: frozenset[int]
    expects_placeholders: bool
    is_encoder_decoder: bool
    mode: Mode
    n_prompt_forwards: int
    eos_ids: frozenset[int]
    streams: bool

    @property
    def has_pixels(self) -> bool:
        """Whether raw pixels were passed."""
        return bool(self.pixels)


def read_inputs(
    generate: Callable[..., object],
    model: torch.nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> Inputs:
    """Return what a call is about to work on; raise where pixels and placeholders disagree."""
    named = _named_arguments(generate, args, kwargs)
    config = getattr(model, "config", None)
    settings = read_settings(model, named)
    input_ids = _ids(named)
    pixels = _pixels(named)
    placeholder_ids = _placeholder_ids(config)
    n_placeholders = _count_tokens(input_ids, placeholder_ids)
    prompt = input_ids if input_ids is not None else _embeds(named)
    inputs = Inputs(
        shapes={name: text for name, value in named.items() if (text := _shape(value))},
        settings={key: settings[key] for key in GENERATION_KEYS if key in settings},
        pixels=tuple(pixels.values()),
        input_ids=input_ids,
        batch_size=_batch_size(prompt, pixels),
        n_prompt_columns=0 if prompt is None else prompt.shape[1],
        n_prompt_tokens=_n_prompt_tokens(prompt, named.get("attention_mask")),
        n_placeholders=n_placeholders,
        n_marked=_count_marked(named, input_ids),
        expects_placeholders=bool(placeholder_ids),
        is_encoder_decoder=bool(getattr(config, "is_encoder_decoder", False)),
        mode=read_mode(settings, named),
        n_prompt_forwards=count_prompt_forwards(settings, prompt),
        eos_ids=read_eos_ids(settings),
        streams=named.get("streamer") is not None,
    )
    _check_placeholders(inputs, pixels)
    return inputs


def _named_arguments(
    generate: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    try:
        signature = inspect.signature(generate)
        bound = signature.bind_partial(*args, **kwargs)
    except (TypeError, ValueError):
        return {f"argument_{index}": value for index, value in enumerate(args)} | dict(kwargs)
    named: dict[str, object] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            named.update({f"argument_{index}": item for index, item in enumerate(value)})
        else:
            named[name] = value
    return {name: value for name, value in named.items() if value is not None}


def _ids(named: Mapping[str, object]) -> torch.Tensor | None:
    for key in ("input_ids", "inputs"):
        value = named.get(key)
        if isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_floating_point():
            return value
    return None


def _embeds(named: Mapping[str, object]) -> torch.Tensor | None:
    value = named.get("inputs_embeds")
    return value if isinstance(value, torch.Tensor) else None


def _pixels(named: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Return the raw pixel tensors: floating point, and named or shaped as pixels are."""
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and (
            any(word in name for word in PIXEL_WORDS)
            or (name in ("inputs", "argument_0") and value.dim() >= 3)
        )
        and "embeds" not in name
        and "mask" not in name
    }


def _placeholder_ids(config: object) -> frozenset[int]:
    values = (getattr(config, key, None) for key in PLACEHOLDER_KEYS)
    return frozenset(value for value in values if isinstance(value, int))


def _count_tokens(input_ids: torch.Tensor | None, ids: Iterable[int]) -> int:
    if input_ids is None:
        return 0
    return sum(int((input_ids == value).sum()) for value in ids)


def _count_marked(named: Mapping[str, object], input_ids: torch.Tensor | None) -> frozenset[int]:
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


def _n_prompt_tokens(prompt: torch.Tensor | None, mask: object) -> int:
    """Return the prompt's tokens over the batch, padding left out."""
    if prompt is None:
        return 0
    if isinstance(mask, torch.Tensor) and mask.shape == prompt.shape[:2]:
        return int(mask.sum())
    return prompt.shape[0] * prompt.shape[1]


def _batch_size(prompt: torch.Tensor | None, pixels: Mapping[str, torch.Tensor]) -> int:
    if prompt is not None:
        return prompt.shape[0]
    return next((value.shape[0] for value in pixels.values()), 1)


def _shape(value: object) -> str | None:
    """Return a tensor's dtype and sizes as text, a cache's length, a list's shapes; else None."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    length = getattr(value, "get_seq_length", None)
    if callable(length):
        return f"cache[{int(length())}]"
    if isinstance(value, list | tuple) and value and isinstance(value[0], torch.Tensor):
        return "; ".join(str(_shape(item)) for item in value)
    return None


def _check_placeholders(inputs: Inputs, pixels: Mapping[str, torch.Tensor]) -> None:
    if not inputs.expects_placeholders or inputs.input_ids is None:
        return
    if inputs.has_pixels and not inputs.n_placeholders:
        raise UsageProblem(
            f"pixels were passed ({', '.join(sorted(pixels))}) but input_ids holds no image "
            f"placeholder token; expected one for each vision token: build both with the model's "
            f"processor from a prompt that names the image"
        )
    if inputs.n_placeholders and not inputs.has_pixels:
        raise UsageProblem(
            f"input_ids holds {inputs.n_placeholders} image placeholder tokens but no pixels were "
            f"passed; expected pixel_values beside them: the model would embed the placeholders "
            f"as text. Pass the processor's whole result, or a prompt without an image"
        )
