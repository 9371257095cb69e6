"""What one generate() was given: shapes, token counts, settings. Read before the clock starts.

Only shapes and counts are ever stored, never pixels or text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.arguments import (
    find_mask,
    find_pixels,
    find_sounds,
    name_arguments,
    shape_of,
    tensors_of,
)
from pytest_vlmlatency.calls.generation import (
    GENERATION_KEYS,
    Mode,
    count_cached,
    count_held_columns,
    count_prompt_forwards,
    has_beams,
    read_eos_ids,
    read_mode,
    read_settings,
)
from pytest_vlmlatency.calls.image_tokens import (
    check_placeholders,
    count_feature_rows,
    count_indexed,
    count_marked,
    find_features,
    find_placeholders,
    placeholder_ids,
)
from pytest_vlmlatency.calls.interception import configured_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_vlmlatency.calls.loop import GenerateCall
    from pytest_vlmlatency.records import Scalar

PROMPT_NAMES = ("input_ids", "inputs")
NO_PROMPT = ("mask", "position", "type", "label", "cache", "grid", "size", "decoder", "index")
"""Words in the names of integer arguments that are no prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerPrompt:
    """What a generate() inside the measured one was given: its rows, and their padding in all."""

    n_rows: int
    n_padding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The arguments of one generate().

    `n_prompt_columns` is the width of the prompt, padding in; `prompt_mask` tells padding apart,
    `placeholder_mask` what stands for an image. `n_cached` tokens lie in a cache that was passed
    in, `n_held_columns` of the prompt among them.
    `n_start_columns` is the width of what an encoder-decoder's output begins with.
    `n_marked` are the numbers of positions that further inputs of the prompt's shape mark, as the
    masks do by which some models say where vision goes; `n_indexed` is what tensors of positions
    say of it, by their size. `pixels` are the raw tensors themselves
    (images in another form have none), kept to recognise them, never stored. `n_feature_rows` is
    how many vectors are given that images were made into before. `is_in_embeds`: the prompt is
    embeddings without pixels, which may hold vision. `is_made_for_images`: the model's main input
    are images. `inner` is what a generate() inside was given, None without one.
    """

    shapes: Mapping[str, str]
    settings: Mapping[str, Scalar]
    has_pixels: bool
    pixels: tuple[torch.Tensor, ...]
    input_ids: torch.Tensor | None
    batch_size: int
    n_prompt_columns: int
    prompt_mask: torch.Tensor | None
    n_start_columns: int
    n_cached: int
    n_held_columns: int
    placeholder_mask: torch.Tensor | None
    n_marked: frozenset[int]
    n_indexed: Mapping[int, int]
    expects_placeholders: bool
    is_encoder_decoder: bool
    mode: Mode
    n_prompt_forwards: int
    eos_ids: frozenset[int]
    padding_id: int | None
    assistant: torch.nn.Module | None
    labels_of_settings: tuple[str, ...]
    labels_of_arguments: tuple[str, ...]
    n_feature_rows: int
    is_in_embeds: bool
    is_made_for_images: bool
    inner: InnerPrompt | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the settings in force, then those of the arguments."""
        return (*self.labels_of_settings, *self.labels_of_arguments)

    @property
    def n_placeholders(self) -> int:
        """The prompt's tokens that stand for an image, over the batch."""
        return 0 if self.placeholder_mask is None else int(self.placeholder_mask.sum())

    @property
    def may_hold_vision(self) -> bool:
        """Whether images may have been passed in another form than pixels, or lie in a cache."""
        return self.n_cached > 0 or self.n_feature_rows > 0 or self.is_in_embeds

    @property
    def n_outside_vocabulary(self) -> int:
        """The prompt's ids that no embedding has: places where a model puts an image."""
        return 0 if self.input_ids is None else int((self.input_ids < 0).sum())

    @property
    def has_beams(self) -> bool:
        """Whether each row is searched for by several beams."""
        return has_beams(self.settings)

    @property
    def is_prompt_known(self) -> bool:
        """Whether it can be told where the output ends to be the prompt."""
        return self.n_prompt_columns > 0 or self.is_encoder_decoder

    def n_read_columns(self, n_seen: int | None) -> int:
        """Return how many columns of the prompt the decoder read, given how many its block saw.

        A generate() of a model's own may leave out the last. Placeholders, chunks, a cache and an
        encoder are other reasons why a block sees fewer.
        """
        has_marks = bool(self.n_placeholders or self.n_marked or self.n_indexed)
        is_in_parts = self.n_cached > 0 or self.n_prompt_forwards > 1
        if n_seen is None or has_marks or is_in_parts or self.is_encoder_decoder:
            return self.n_prompt_columns
        return min(n_seen, self.n_prompt_columns)

    @property
    def n_prompt_tokens(self) -> int:
        """The prompt's tokens over the batch, padding left out."""
        return self.count_prompt_tokens(self.n_prompt_columns)

    def n_skipped_columns(self, n_seen: int) -> int:
        """Return how many columns of the prompt the cache stood for, given what a block saw."""
        if not self.n_cached or self.is_encoder_decoder:
            return 0
        if self.n_prompt_forwards > 1:
            return self.n_held_columns
        return max(0, self.n_prompt_columns - n_seen)

    def count_prompt_tokens(self, n_columns: int, *, start: int = 0) -> int:
        """Return the tokens in the prompt's columns up to one, over the batch, padding left out."""
        if self.prompt_mask is None:
            return (n_columns - start) * self.batch_size if self.n_prompt_columns else 0
        return int(self.prompt_mask[:, start:n_columns].sum())

    def count_placeholders(self, *, start: int) -> int:
        """Return the placeholders from a column on, over the batch."""
        return 0 if self.placeholder_mask is None else int(self.placeholder_mask[:, start:].sum())


def read_inputs(
    generate: Callable[..., object],
    model: torch.nn.Module,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    *,
    generator: torch.nn.Module | None = None,
    has_vision: bool = True,
) -> Inputs:
    """Return what a call is about to work on; raise where pixels and placeholders disagree.

    `generator` is the part of the model whose generation settings are in force, where that is
    known to be another than the one that is configured. Without `has_vision`, a watched call ran no
    vision: of what looks like images, vectors as wide as something in the model are features.
    """
    named = name_arguments(generate, args, kwargs)
    configured = configured_part(model)
    config = getattr(configured, "config", None)
    settings = read_settings(generator or configured, named)
    input_ids = _ids(named)
    images = find_pixels(named)
    if not has_vision:
        vectors = find_features(named, (), model)
        images = {name: values for name, values in images.items() if name not in vectors}
    pixels = tensors_of(images)
    features = find_features(named, images, model)
    is_encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    marks = placeholder_ids(config)
    prompt = input_ids if input_ids is not None else named.get("inputs_embeds")
    prompt = prompt if isinstance(prompt, torch.Tensor) else None
    mask = find_mask(named, prompt)
    n_held = 0 if is_encoder_decoder else count_held_columns(named, prompt, mask)
    inputs = Inputs(
        shapes={name: text for name, value in named.items() if (text := shape_of(value))},
        settings={key: settings[key] for key in GENERATION_KEYS if key in settings},
        has_pixels=bool(images),
        pixels=pixels,
        input_ids=input_ids,
        batch_size=_batch_size(prompt, pixels),
        n_prompt_columns=0 if prompt is None else prompt.shape[1],
        prompt_mask=_prompt_mask(prompt, mask),
        n_start_columns=_n_start_columns(named),
        n_cached=count_cached(named),
        n_held_columns=n_held,
        placeholder_mask=find_placeholders(model, prompt, marks),
        n_marked=count_marked(named, input_ids),
        n_indexed=count_indexed(named, input_ids),
        expects_placeholders=bool(marks),
        is_encoder_decoder=is_encoder_decoder,
        mode=read_mode(settings, named),
        n_prompt_forwards=1 if is_encoder_decoder else _n_forwards(settings, named, prompt, n_held),
        eos_ids=read_eos_ids(settings),
        padding_id=_padding_id(settings),
        assistant=_assistant(named),
        labels_of_settings=labels_of_settings(named, settings),
        labels_of_arguments=labels_of_arguments(named, images, model, has_features=bool(features)),
        n_feature_rows=sum(map(count_feature_rows, features.values())),
        is_made_for_images=_main_input(configured) != "input_ids",
        is_in_embeds=not images and "inputs_embeds" in named,
    )
    check_placeholders(inputs, images)
    return inputs


def in_force(inputs: Inputs, call: GenerateCall | None) -> Inputs:
    """Return the inputs with the settings of the generate() inside that runs the loop, if any."""
    if call is None:
        return inputs
    named = name_arguments(call.function, call.args, call.kwargs)
    settings = read_settings(call.module, named)
    inner = _inner_prompt(named)
    return replace(
        inputs,
        batch_size=inputs.batch_size if inputs.is_prompt_known or not inner else inner.n_rows,
        settings={key: settings[key] for key in GENERATION_KEYS if key in settings},
        mode=read_mode(settings, named),
        eos_ids=read_eos_ids(settings),
        padding_id=_padding_id(settings),
        labels_of_settings=labels_of_settings(named, settings),
        inner=inner,
    )


def _inner_prompt(named: Mapping[str, object]) -> InnerPrompt | None:
    prompt = named.get("inputs_embeds")
    if not isinstance(prompt, torch.Tensor):
        prompt = _ids(named)
    if prompt is None:
        return None
    mask = _prompt_mask(prompt, find_mask(named, prompt))
    n_padding = 0 if mask is None else mask.numel() - int(mask.count_nonzero())
    return InnerPrompt(n_rows=prompt.shape[0], n_padding=n_padding)


def _ids(named: Mapping[str, object]) -> torch.Tensor | None:
    """Return the prompt: the argument of its usual name, else the first that looks like one."""
    likely = [name for name in named if not any(word in name for word in NO_PROMPT)]
    likely = [] if "inputs_embeds" in named else likely
    for name in (*(key for key in PROMPT_NAMES if key in named), *likely):
        value = named[name]
        if isinstance(value, torch.Tensor) and value.dim() == 2 and not value.is_floating_point():
            return value
    return None


def _prompt_mask(prompt: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Return the mask that tells the prompt's tokens from its padding, None where all count."""
    if prompt is None or mask is None:
        return None
    n_columns = prompt.shape[1]
    is_wide = mask.dim() == 2 and mask.shape[1] >= n_columns > 0
    return mask[:, -n_columns:] if is_wide else None


def _batch_size(prompt: torch.Tensor | None, pixels: Sequence[torch.Tensor]) -> int:
    if prompt is not None:
        return prompt.shape[0]
    return pixels[0].shape[0] if pixels else 1


def _n_start_columns(named: Mapping[str, object]) -> int:
    """Return how many columns an encoder-decoder's output begins with: its decoder's prompt."""
    decoder_ids = named.get("decoder_input_ids")
    return decoder_ids.shape[1] if isinstance(decoder_ids, torch.Tensor) else 1


def _n_forwards(
    settings: Mapping[str, Scalar],
    named: Mapping[str, object],
    prompt: torch.Tensor | None,
    n_held: int,
) -> int:
    """Return the forwards that a prompt takes; assisted decoding knows no chunks."""
    is_assisted = read_mode(settings, named) is Mode.ASSISTED
    if is_assisted or prompt is None:
        return 1
    return count_prompt_forwards(settings, prompt.shape[1] - n_held)


def _main_input(model: torch.nn.Module) -> str:
    """Return what a model works on first, by its own word."""
    return str(getattr(model, "main_input_name", "input_ids"))


def _padding_id(settings: Mapping[str, Scalar]) -> int | None:
    value = settings.get("pad_token_id")
    return None if value is None else int(value)


def _assistant(named: Mapping[str, object]) -> torch.nn.Module | None:
    assistant = named.get("assistant_model")
    return assistant if isinstance(assistant, torch.nn.Module) else None


OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def labels_of_settings(
    named: Mapping[str, object], settings: Mapping[str, Scalar]
) -> tuple[str, ...]:
    """Return the labels that the settings of a generate() tell beside its way to decode."""
    n_sequences = int(settings.get("num_return_sequences") or 1)
    mode = read_mode(settings, named)
    labels = {
        "beam": has_beams(settings) and mode is not Mode.BEAM,
        "sample": settings.get("do_sample") and mode is not Mode.SAMPLE,
        f"{n_sequences}-sequences": n_sequences > 1,
        "outputs": any(settings.get(key) for key in OUTPUTS),
    }
    return tuple(label for label, holds in labels.items() if holds)


def labels_of_arguments(
    named: Mapping[str, object],
    pixel_names: Iterable[str],
    model: torch.nn.Module,
    *,
    has_features: bool,
) -> tuple[str, ...]:
    """Return the labels that a call's arguments tell, and autocast around it."""
    labels = {
        "video": any("video" in name for name in pixel_names),
        "features": has_features,
        "continued": count_cached(named) > 0,
        "sound": bool(find_sounds(named)),
        "embeds": named.get("inputs_embeds") is not None,
        "streamed": any(map(_is_streamer, named.values())),
    }
    return (*(label for label, holds in labels.items() if holds), *_autocast(model))


def _is_streamer(value: object) -> bool:
    """Whether an argument is given each token as it comes, as transformers' streamers are."""
    return all(callable(getattr(value, name, None)) for name in ("put", "end"))


def _autocast(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the label of autocast, where it is on for a device that holds the model."""
    kinds = {parameter.device.type for parameter in model.parameters()} - {"meta"}
    return tuple(
        f"autocast-{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')}"
        for kind in sorted(kinds)
        if torch.is_autocast_enabled(kind)
    )
