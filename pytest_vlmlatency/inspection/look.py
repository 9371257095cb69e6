"""Look at one call of a model: from what was asked for to what was found.

Owns putting the parts together. Whatever a measurement would refuse is refused here, by the same
error.

The tokens of the call that was looked at, by phase and by image. Pure.

What a model says of itself, without running, against what was seen when it ran.

A cross-check only: such look-ups were seen to be wrong for a tenth of all architectures, so a
disagreement is reported and changes nothing.

What an inspection could not tell, in sentences. Pure.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.clock import model_devices
from pytest_vlmlatency.calls.image_tokens import placeholder_ids
from pytest_vlmlatency.calls.interception import configured_part
from pytest_vlmlatency.inspection.attribution import (
    attribute,
    call_rows,
    module_rows,
    phases_by_module,
)
from pytest_vlmlatency.inspection.findings import Check, Inspection, Tokens, Verdict
from pytest_vlmlatency.inspection.sources import Source, open_source
from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.measure.case import describe_workload, labels_of
from pytest_vlmlatency.measure.single import Single, observe
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.printing import plural
from pytest_vlmlatency.records import Phase, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from pytest_vlmlatency.calls.clock import Clock
    from pytest_vlmlatency.inspection.request import Request
    from pytest_vlmlatency.measure.invariants import Observation
    from pytest_vlmlatency.measure.single import Single


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found, and the measured call that a trace is made of."""

    inspection: Inspection
    single: Single
    clock: Clock


def look_at(request: Request, *, report: Callable[[str], None], clock: Clock | None = None) -> Look:
    """Return what one call of the model shows; raise where a measurement would."""
    report(f"loading {request.source}")
    source = open_source(request)
    single = observe(
        source.target,
        _options(request, source),
        has_blocks=request.has_trace_blocks,
        clock=clock,
        report=report,
    )
    return Look(
        inspection=_inspection(request.source, source, single),
        single=single,
        clock=single.observation.recorder.clock,
    )


def _options(request: Request, source: Source) -> Options:
    """Return how to measure: on one thread where times are shown, else on all that there are."""
    threads = 0 if request.threads is None and request.trace is None else request.threads
    return Options(
        setup=source.setup,
        phases=request.phases,
        threads=threads,
        per_token=request.has_trace_tokens,
        device=request.loading.device,
    )


def _inspection(name: str, source: Source, single: Single) -> Inspection:
    model, seen = source.target.model, single.observation
    n_prompt_forwards = seen.inputs.n_prompt_forwards
    calls = attribute(single.trace, seen.phase_map, n_prompt_forwards=n_prompt_forwards)
    phases = phases_by_module(calls)
    tokens = count_tokens(
        seen,
        n_images=source.n_images,
        placeholders=placeholder_ids(getattr(configured_part(model), "config", None)),
    )
    return Inspection(
        source=name,
        description=source.description,
        device=single.device,
        mode=str(seen.inputs.mode),
        is_encoder_decoder=seen.inputs.is_encoder_decoder,
        labels=labels_of(seen),
        workload=describe_workload(model, seen),
        phase_map=seen.phase_map,
        modules=module_rows(model, seen.phase_map, phases),
        calls=call_rows(
            calls,
            seen.phase_map,
            n_prompt_forwards=n_prompt_forwards,
            n_forwards=seen.recorder.n_forwards,
        ),
        tokens=tokens,
        checks=static_checks(model, seen.phase_map, phases),
        untold=untold(single, tokens),
        versions=read_environment(model_devices(model)).versions,
    )


def count_tokens(
    seen: Observation, *, n_images: int | None, placeholders: frozenset[int]
) -> Tokens:
    """Return the counts of one call; `placeholders` are the token ids that stand for an image."""
    inputs, call = seen.inputs, seen.call
    n_drafted = call.drafted_lengths[0] if call.drafted_lengths else 0
    n_seen = max(0, (seen.recorder.prompt_length or 0) - n_drafted)
    runs = placeholder_runs(inputs.input_ids, placeholders)
    n_padding = _n_padding(seen, n_seen)
    return Tokens(
        n_vision=call.n_vision_tokens,
        n_text=call.n_text_tokens,
        n_padding=n_padding,
        n_images=n_images,
        per_image=_per_image(call.n_vision_tokens, n_images, runs),
        placeholder_runs=runs,
        n_block_positions=_n_block_positions(seen, n_seen, n_padding or 0),
        batch_size=inputs.batch_size,
        n_prompt_forwards=inputs.n_prompt_forwards,
        n_decode_steps=call.n_decode_steps,
        n_output=seen.output.n_longest,
        accepted_lengths=call.accepted_lengths,
    )


def _n_block_positions(seen: Observation, n_seen: int, n_padding: int) -> int | None:
    """Return what the first block was given, None where that is no length of this prompt.

    Several forwards may share a prompt. Text alone is a length only where vision has no positions
    in the prompt.
    """
    n_vision, n_text = seen.call.n_vision_tokens, seen.call.n_text_tokens
    if n_vision is None or n_text is None:
        return None
    n_written = n_text + n_padding
    n_possible = {n_vision + n_written}
    if seen.inputs.n_placeholders != n_vision:
        n_possible.add(n_written)
    if seen.inputs.is_encoder_decoder:
        n_possible = {seen.inputs.n_start_columns * seen.inputs.batch_size}
    n_positions = n_seen * seen.inputs.batch_size
    is_told = n_positions in n_possible and seen.inputs.n_prompt_forwards == 1
    return n_positions if is_told else None


def _n_padding(seen: Observation, n_seen: int) -> int | None:
    """Return the padding in the columns that the decoder read, None where the prompt is unknown."""
    inputs = seen.inputs
    if not inputs.n_prompt_columns:
        return None
    start, end = inputs.n_skipped_columns(n_seen), inputs.n_read_columns(n_seen)
    return (end - start) * inputs.batch_size - inputs.count_prompt_tokens(end, start=start)


def _per_image(
    n_vision: int | None, n_images: int | None, runs: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return each image's vision tokens: all of one image's, else the runs of placeholders."""
    if n_images is None or not n_vision:
        return None
    if n_images == 1:
        return (n_vision,)
    is_told = len(runs) == n_images and sum(runs) == n_vision
    return runs if is_told else None


def placeholder_runs(
    input_ids: torch.Tensor | None, placeholders: frozenset[int]
) -> tuple[int, ...]:
    """Return the lengths of the uninterrupted runs of placeholders, row by row."""
    runs: list[int] = []
    for row in [] if input_ids is None else input_ids.tolist():
        length = 0
        for token in (*row, None):
            if token in placeholders:
                length += 1
            elif length:
                runs.append(length)
                length = 0
    return tuple(runs)


LOOKUP_ERRORS = (AttributeError, NotImplementedError, TypeError, ValueError)
"""What get_encoder() and get_decoder() raise where a model has no such part."""


def static_checks(
    model: torch.nn.Module, phase_map: PhaseMap, phases: Mapping[str, frozenset[Phase]]
) -> tuple[Check, ...]:
    """Return the look-ups for vision (if there was any), the decoder and the number of blocks."""
    checks = [_decoder_check(model, phase_map), _count_check(model, phase_map)]
    if phase_map.vision_calls:
        checks.insert(0, _vision_check(model, phases))
    return tuple(checks)


def _vision_check(model: torch.nn.Module, phases: Mapping[str, frozenset[Phase]]) -> Check:
    said = _part(model, "get_encoder", modality="image")
    vision = [path for path, found in phases.items() if found == {Phase.VISION}]
    outermost = [path for path in vision if path.rpartition(".")[0] not in vision]
    return Check(
        what='get_encoder(modality="image")',
        said=said,
        seen=f"vision is {', '.join(outermost) or 'no module of its own'}",
        verdict=_verdict(said, is_right=said in vision),
    )


def _decoder_check(model: torch.nn.Module, phase_map: PhaseMap) -> Check:
    said = _part(model, "get_decoder")
    first = phase_map.blocks[0]
    return Check(
        what="get_decoder()",
        said=said,
        seen=f"the first block is {first}",
        verdict=_verdict(said, is_right=said is not None and first.startswith(f"{said}.")),
    )


def _count_check(model: torch.nn.Module, phase_map: PhaseMap) -> Check:
    said = _n_configured(model)
    n_seen = len(phase_map.blocks)
    return Check(
        what="config",
        said=None if said is None else plural(said, "block"),
        seen=f"{plural(n_seen, 'block')} ran",
        verdict=_verdict(said, is_right=said == n_seen),
    )


def _verdict(said: object, *, is_right: bool) -> Verdict:
    if said is None:
        return Verdict.SILENT
    return Verdict.AGREES if is_right else Verdict.DISAGREES


def _part(model: torch.nn.Module, method: str, **arguments: str) -> str | None:
    """Return the path of what a look-up names; None for the model itself, or for nothing."""
    asked = configured_part(model)
    look_up = getattr(asked, method, None)
    if not callable(look_up):
        return None
    try:
        if not set(arguments) <= set(inspect.signature(look_up).parameters):
            return None
        part = look_up(**arguments)
    except LOOKUP_ERRORS:
        return None
    paths = {id(module): path for path, module in model.named_modules()}
    return None if part is asked else paths.get(id(part)) or None


def _n_configured(model: torch.nn.Module) -> int | None:
    config = getattr(configured_part(model), "config", None)
    read = getattr(config, "get_text_config", None)
    if not callable(read):
        return None
    text = read(decoder=True)
    names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")
    found = next((getattr(text, name) for name in names if hasattr(text, name)), None)
    return found if isinstance(found, int) else None


def untold(single: Single, tokens: Tokens) -> tuple[str, ...]:
    """Return what could not be told, and why; nothing where all of it could."""
    seen = single.observation
    has_vision = bool(seen.recorder.vision_calls)
    told_by_ids = seen.output.n_longest is not None
    problems = {
        "the vision tokens of each image: inputs of your own do not say how many images they are": (
            has_vision and tokens.n_images is None
        ),
        f"the vision tokens of each of {tokens.n_images} images: the prompt does not keep one "
        f"image's placeholders apart from another's": (
            has_vision and (tokens.n_images or 0) > 1 and tokens.per_image is None
        ),
        "which of the prompt's positions are padding: it came as embeddings, or under a name that "
        "is not known": tokens.n_padding is None and not seen.inputs.is_encoder_decoder,
        "how many tokens came out: generate() returned no ids, so its forwards were counted": (
            not told_by_ids
        ),
        "what the first block was given: the prompt took several forwards": (
            tokens.n_prompt_forwards > 1
        ),
        "what the first block was given: its states do not have the length of the prompt, nor that "
        "of its text": tokens.n_prompt_forwards == 1 and tokens.n_block_positions is None,
        "whether watching changes what the model returns: unmeasured calls differed among "
        "themselves": not single.is_repeatable,
        f"an undisturbed call: {single.disturbed_because}": single.disturbed_because is not None,
    }
    return tuple(text for text, holds in problems.items() if holds)
