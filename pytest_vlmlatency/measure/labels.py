"""Short words for the mode of a case: what makes its numbers unlike a plain greedy call's.

Pure. A label is said where the work differs, whatever the times are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.measure.doubt import find_sounds
from pytest_vlmlatency.measure.generation import Mode, has_beams, read_mode
from pytest_vlmlatency.measure.invariants import n_further_steps
from pytest_vlmlatency.measure.past import NO_CACHE, count_cached

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_vlmlatency.measure.invariants import Observation
    from pytest_vlmlatency.records import Scalar

OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
PLAIN_CACHE = "dynamic"


def labels_of(seen: Observation) -> tuple[str, ...]:
    """Return the labels of a measured call, its way to decode first."""
    cache = seen.phase_map.cache
    n_further = n_further_steps(seen)
    labels = {
        str(seen.inputs.mode): seen.inputs.mode is not Mode.GREEDY,
        **dict.fromkeys(seen.inputs.labels, True),
        "no-cache": cache == NO_CACHE,
        f"{cache}-cache".replace(" ", "-"): cache not in ("", NO_CACHE, PLAIN_CACHE),
        "chunked": seen.inputs.n_prompt_forwards > 1,
        "start-token": seen.phase_map.n_start_tokens > 0,
        "extra-step": n_further == 1,
        "uneven-steps": n_further not in (0, 1),
        "vision-outside": seen.recorder.n_outside > 0,
        "text-only": not (
            seen.recorder.vision_calls
            or seen.recorder.n_outside
            or seen.inputs.has_pixels
            or seen.inputs.may_hold_vision
        ),
        "no-vision-phase": not seen.recorder.vision_calls and seen.inputs.has_pixels,
        "vision-in-decode": any(call.is_late for call in seen.recorder.vision_calls),
        "compiled": is_compiled_anywhere(seen),
        "per-token": seen.call.decode_step_times_ms is not None,
    }
    return tuple(label for label, holds in labels.items() if holds)


def is_compiled_anywhere(seen: Observation) -> bool:
    """Whether torch.compile had compiled a part of the model, or generate() did."""
    return bool(seen.phase_map.compiled) or seen.recorder.is_step_compiled


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
