"""What one generate() was given: shapes, token counts, settings. Read before the clock starts.

Only shapes and counts are ever stored, never pixels or text.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
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
from pytest_vlmlatency.measure.pixels import find_pixels, tensors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_vlmlatency.records import Scalar

PROMPT_NAMES = ("input_ids", "inputs")
NO_PROMPT = ("mask", "position", "type", "label", "cache", "grid", "size", "decoder", "index")
"""Words in the names of integer arguments that are no prompt."""
ENCODED = ("embeds", "encoder_outputs", "features")
"""Words in the names of arguments that may hold an image in another form than pixels."""
NO_MARKS = ("input_ids", "inputs", "attention_mask", "position_ids")
PLACEHOLDER_KEYS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The arguments of one generate().

    `n_prompt_columns` is the width of input_ids, padding in, and `n_start_columns` that of what an
    encoder-decoder's output begins with.
    `n_marked` are the numbers of positions that further inputs of the prompt's shape mark, as the
    masks do by which some models say where vision goes. `pixels` are the raw tensors themselves
    (images in another form have none), kept to recognise them, never stored.
    """

    shapes: Mapping[str, str]
    settings: Mapping[str, Scalar]
    has_pixels: bool
    pixels: tuple[torch.Tensor, ...]
    input_ids: torch.Tensor | None
    batch_size: int
    n_prompt_columns: int
    n_prompt_tokens: int
    n_start_columns: int
    n_cached: int
    n_placeholders: int
    n_marked: frozenset[int]
    expects_placeholders: bool
    is_encoder_decoder: bool
    mode: Mode
    n_prompt_forwards: int
    eos_ids: frozenset[int]
    assistant: torch.nn.Module | None

    @property
    def is_prompt_known(self) -> bool:
        """Whether it can be told where the output ends to be the prompt."""
        return self.n_prompt_columns > 0 or self.is_encoder_decoder


def read_inputs(
    generate: Callable[..., object],
    model: torch.nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    generator: torch.nn.Module | None = None,
) -> Inputs:
    """Return what a call is about to work on; raise where pixels and placeholders disagree.

    `generator` is the part of the model whose generation settings are in force, where that is
    known to be another than the model itself.
    """
    named = name_arguments(generate, args, kwargs)
    config = getattr(model, "config", None)
    settings = read_settings(generator or model, named)
    input_ids = _ids(named)
    images = find_pixels(named)
    pixels = tensors_of(images)
    is_encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    mode = read_mode(settings, named)
    decoder_ids = named.get("decoder_input_ids")
    assistant = named.get("assistant_model")
    placeholder_ids = _placeholder_ids(config)
    n_placeholders = _count_tokens(input_ids, placeholder_ids)
    prompt = input_ids if input_ids is not None else _embeds(named)
    inputs = Inputs(
        shapes={name: text for name, value in named.items() if (text := _shape(value))},
        settings={key: settings[key] for key in GENERATION_KEYS if key in settings},
        has_pixels=bool(images),
        pixels=pixels,
        input_ids=input_ids,
        batch_size=_batch_size(prompt, pixels),
        n_prompt_columns=0 if prompt is None else prompt.shape[1],
        n_prompt_tokens=_n_prompt_tokens(prompt, named.get("attention_mask")),
        n_start_columns=decoder_ids.shape[1] if isinstance(decoder_ids, torch.Tensor) else 1,
        n_cached=_n_cached(named),
        n_placeholders=n_placeholders,
        n_marked=_count_marked(named, input_ids),
        expects_placeholders=bool(placeholder_ids),
        is_encoder_decoder=is_encoder_decoder,
        mode=mode,
        n_prompt_forwards=(
            1
            if mode is Mode.ASSISTED or is_encoder_decoder
            else count_prompt_forwards(settings, prompt)
        ),
        eos_ids=read_eos_ids(settings),
        assistant=assistant if isinstance(assistant, torch.nn.Module) else None,
    )
    _check_placeholders(inputs, named, images)
    return inputs


def name_arguments(
    generate: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Return the arguments of a call by name; a mapping passed as one argument is opened."""
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
        elif isinstance(value, Mapping):
            named.update(value)
        else:
            named[name] = value
    return {name: value for name, value in named.items() if value is not None}


def _ids(named: Mapping[str, object]) -> torch.Tensor | None:
    """Return the prompt: the argument of its usual name, else the first that looks like one."""
    likely = [name for name in named if not any(word in name for word in NO_PROMPT)]
    for name in (*(key for key in PROMPT_NAMES if key in named), *likely):
        value = named[name]
        if isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_floating_point():
            return value
    return None


def _embeds(named: Mapping[str, object]) -> torch.Tensor | None:
    value = named.get("inputs_embeds")
    return value if isinstance(value, torch.Tensor) else None


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


def _batch_size(prompt: torch.Tensor | None, pixels: Sequence[torch.Tensor]) -> int:
    if prompt is not None:
        return prompt.shape[0]
    return pixels[0].shape[0] if pixels else 1


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


def _check_placeholders(
    inputs: Inputs, named: Mapping[str, object], pixel_names: Iterable[str]
) -> None:
    """Raise where pixels and placeholders disagree, unless the image is known in another form."""
    is_elsewhere = any(word in name for name in named for word in ENCODED) or inputs.n_cached
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


def _n_cached(named: Mapping[str, object]) -> int:
    """Return how many tokens a cache that was passed in already holds."""
    length = getattr(named.get("past_key_values"), "get_seq_length", None)
    return int(length()) if callable(length) else 0
