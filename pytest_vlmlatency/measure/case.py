"""From a finished subject to the Case that is kept: its workload, labels and notes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.compilation import n_limits_reached
from pytest_vlmlatency.calls.generation import NO_CACHE, Mode, asked_cache, is_kind
from pytest_vlmlatency.calls.interception import configured_part
from pytest_vlmlatency.machine.allocator import FlushEvidence
from pytest_vlmlatency.measure.invariants import n_further_steps
from pytest_vlmlatency.records import Call, Case, DeviceState, Scalar, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.measure.invariants import Observation
    from pytest_vlmlatency.measure.subject import Subject
    from pytest_vlmlatency.options import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a case is called. `id` is stable between runs; a configuration is appended to it.

    `former_id` is what earlier versions called it, None where that was the same.
    """

    id: str
    name: str
    test: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    worker: str | None = None
    former_id: str | None = None


def finished_case(
    subject: Subject,
    identity: Identity,
    stop_reason: str,
    *,
    before: tuple[DeviceState, ...],
    after: tuple[DeviceState, ...],
) -> Case:
    """Return the case of a subject that has stopped; its last checks are made here.

    `before` and `after` are the devices' states around all rounds.
    """
    assert subject.first is not None, "a case without a round"
    subject.check_flushes_between()
    subject.check_discards()
    return Case(
        id=_id(identity.id, subject.config),
        former_id=_former_id(identity, subject.config),
        name=_name(identity, subject.config),
        test=identity.test,
        params=identity.params,
        worker=identity.worker,
        device=subject.device,
        workload=describe_workload(subject.target.model, subject.first),
        phase_map=subject.phase_map,
        discovery=subject.discovery,
        calls=tuple(subject.calls),
        discarded=tuple(subject.discarded),
        config=_values(subject.config),
        labels=labels_of(subject.first),
        notes=tuple(_notes(subject)),
        stop_reason=stop_reason,
        n_threads=subject.first.n_threads,
        device_before=before,
        device_after=after,
    )


def unmeasured_case(identity: Identity, config: Configuration | None, *, device: str) -> Case:
    """Return the case of a call that was made but not measured."""
    return Case(
        id=_id(identity.id, config),
        former_id=_former_id(identity, config),
        name=_name(identity, config),
        test=identity.test,
        params=identity.params,
        worker=identity.worker,
        device=device,
        workload=None,
        phase_map=None,
        calls=(),
        config=_values(config),
        is_measured=False,
    )


def describe_workload(model: torch.nn.Module, seen: Observation) -> Workload:
    """Return what a call did: the model's make-up, the inputs, the settings, the output."""
    dtypes = [tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()]
    return Workload(
        model=type(model).__name__,
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=", ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes)),
        attention=attention_of(model),
        inputs=seen.inputs.shapes,
        generation=seen.inputs.settings,
        batch_size=seen.inputs.batch_size,
        n_vision_tokens=seen.call.n_vision_tokens,
        n_text_tokens=seen.call.n_text_tokens,
        n_output_tokens=seen.call.n_output_tokens,
        output_digest=seen.output.digest,
    )


def attention_of(model: torch.nn.Module) -> str:
    """Return the attention implementation, by part where the parts differ."""
    config = getattr(configured_part(model), "config", None)
    parts = {"text": "text_config", "vision": "vision_config"}
    found = {
        part: getattr(getattr(config, key, None), "_attn_implementation", None)
        for part, key in parts.items()
    }
    named = {part: name for part, name in found.items() if name}
    if len(set(named.values())) > 1:
        return ", ".join(f"{part} {name}" for part, name in named.items())
    return str(next(iter(named.values()), getattr(config, "_attn_implementation", None)))


def _notes(subject: Subject) -> list[str]:
    assert subject.first is not None, "a case without a round"
    return [
        *_output_notes(subject),
        *_flush_notes(subject),
        *_thread_notes(subject),
        *_compile_notes(subject.first),
        *_draft_notes(subject.first.call),
        *_cache_notes(subject.first),
        *_step_notes(subject.first),
        *_token_notes(subject.first),
        *_vision_notes(subject.first),
    ]


def _output_notes(subject: Subject) -> list[str]:
    if subject.is_repeatable:
        return []
    return [
        "unmeasured calls returned different outputs, so it could not be checked that measuring "
        "leaves the output as it is"
    ]


def _thread_notes(subject: Subject) -> list[str]:
    """Say so where there was not one thread, or one that was not set up for measuring."""
    seen, n_threads = subject.first, torch.get_num_threads()
    assert seen is not None, "a case without a round"
    if seen.n_threads == n_threads:
        is_chosen = subject.options.threads is not None or not subject.is_on_cpu
        return [] if is_chosen or n_threads == 1 else _kept_thread_notes(n_threads)
    return [
        f"generate() ran on a thread of its own, with {seen.n_threads} torch threads instead of "
        f"{n_threads} and pinned to no core"
    ]


def _kept_thread_notes(n_threads: int) -> list[str]:
    return [
        f"something is compiled, so it ran on the {n_threads} threads that torch has: for another "
        f"number it would be compiled again. torch.set_num_threads(1) before anything is compiled "
        f"repeats best"
    ]


def _compile_notes(seen: Observation) -> list[str]:
    """Say so where torch gave up compiling something: it does so with no more than a log line."""
    n_limits = n_limits_reached()
    if not (is_compiled_anywhere(seen) and n_limits):
        return []
    return [
        f"torch.compile reached its recompile limit {n_limits} times in this process, and runs "
        f"what goes beyond it uncompiled: parts of this model may be among it"
    ]


def _draft_notes(call: Call) -> list[str]:
    """Say how much of the drafts of assisted decoding was accepted."""
    if not (call.accepted_lengths and call.drafted_lengths):
        return []
    n_accepted, n_forwards = sum(call.accepted_lengths), len(call.accepted_lengths)
    return [
        f"of {sum(call.drafted_lengths)} drafted tokens {n_accepted - n_forwards} were accepted: "
        f"{n_forwards} forwards gave {n_accepted} tokens, {call.mean_accepted_length:.2f} each"
    ]


def _cache_notes(seen: Observation) -> list[str]:
    """Say so where steps had another cache than was asked for: transformers does not."""
    asked, found = asked_cache(seen.inputs.settings), seen.phase_map.cache
    if not asked or not found or is_kind(found, asked):
        return []
    return [f"a cache of the kind {asked!r} was asked for, but generate() worked with {found!r}"]


def _token_notes(seen: Observation) -> list[str]:
    """Say so where token counts are unknown, and why."""
    notes = []
    if seen.call.n_text_tokens is None:
        n_seen = seen.recorder.prompt_length
        because = f"what was seen does not add up to the {n_seen} positions of the first block"
        if seen.inputs.is_encoder_decoder:
            because = "what an encoder gave before the call may be of text and of images"
        if seen.inputs.is_in_embeds and not seen.recorder.vision_calls:
            because = "inputs_embeds were passed without pixels, and vision may be among them"
        notes.append(f"vision and text tokens are unknown: {because}")
    if seen.call.n_generated_tokens is None:
        notes.append(
            "the generated tokens are unknown: something else than an end token may have ended a "
            "row, and its padding may be tokens"
        )
    return notes


def _step_notes(seen: Observation) -> list[str]:
    """Say so where steps and tokens do not agree as in a plain loop, and why that may be."""
    notes = []
    n_steps, n_tokens = seen.call.n_decode_steps, seen.output.n_longest
    if seen.phase_map.n_start_tokens:
        n_start = seen.phase_map.n_start_tokens
        tokens = "a token" if n_start == 1 else f"{n_start} tokens"
        are = "is" if n_start == 1 else "are"
        notes.append(
            f"its output begins with {tokens} that no forward gave, which {are} not counted"
        )
    if n_further_steps(seen) == 1:
        notes.append(
            f"{n_steps} decode steps ran for {n_tokens} tokens: the loop runs one more forward "
            f"after its last token, or keeps its end token to itself"
        )
    elif n_further_steps(seen):
        notes.append(
            f"{n_steps} decode steps ran for {n_tokens} tokens, "
            + (
                "by the step module that was named"
                if seen.phase_map.is_step_named
                else "the last on tokens that were not returned: the loop runs ahead of its end"
            )
        )
    return notes


def _vision_notes(seen: Observation) -> list[str]:
    """Say so where the user named vision otherwise than once, before the prompt's logits."""
    n_late = sum(call.is_late for call in seen.recorder.vision_calls)
    if n_late:
        return [
            f"vision ran {n_late} times after the prompt's logits: that time is decode's, and the "
            f"vision phase is what ran before them"
        ]
    if seen.inputs.has_pixels and not seen.recorder.vision_calls:
        return ["nothing is named as vision: encoding the images is in prefill, or in other"]
    return []


def _flush_notes(subject: Subject) -> list[str]:
    notes = []
    assert subject.first is not None, "a case without a round"
    if subject.first.evidence is FlushEvidence.UNDETECTABLE:
        notes.append(f"a cache flush would be undetectable: {FlushEvidence.UNDETECTABLE.basis}")
    n_flushes = subject.calls[0].n_flushes_before
    if n_flushes:
        notes.append(f"empty_cache() was called {n_flushes} times before every round")
    return notes


def _values(config: Configuration | None) -> dict[str, Scalar] | None:
    return None if config is None else dict(config.values())


def _id(test: str, config: Configuration | None) -> str:
    values = _values(config)
    if values is None:
        return test
    return f"{test}{{{','.join(f'{key}={value}' for key, value in values.items())}}}"


def _former_id(identity: Identity, config: Configuration | None) -> str | None:
    return None if identity.former_id is None else _id(identity.former_id, config)


def _name(identity: Identity, config: Configuration | None) -> str:
    """Return the name for tables, with the configuration's values only: there is little room."""
    values = _values(config)
    if values is None:
        return identity.name
    return f"{identity.name}{{{','.join(str(value) for value in values.values())}}}"


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
