"""One timed generate(): everything that touches the model while the clock runs.

What is read before the clock starts and after it stops (arguments, allocator, contention) is in no
span. The result is a Seen: raw facts, judged by nobody yet.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.compilation import n_compilations
from pytest_vlmlatency.calls.drafts import read_drafts, watching_drafts
from pytest_vlmlatency.calls.handles import part_of
from pytest_vlmlatency.calls.hooks import attached
from pytest_vlmlatency.calls.interception import Generate, Target, call_target
from pytest_vlmlatency.calls.loop import Loop, watching_loop
from pytest_vlmlatency.calls.output import Output, read_output
from pytest_vlmlatency.calls.recorder import recording
from pytest_vlmlatency.calls.timeline import Boundary, Timeline, read_timeline, step_times_ms
from pytest_vlmlatency.calls.tokens import count_prompt_tokens
from pytest_vlmlatency.calls.workload import Inputs, in_force, read_inputs
from pytest_vlmlatency.machine.allocator import (
    FlushEvidence,
    FlushWatch,
    allocator_counters,
    flush_evidence,
    peak_memory_bytes,
    reset_peak_memory,
)
from pytest_vlmlatency.machine.cpu import ContentionMeter
from pytest_vlmlatency.measure.invariants import Observation, n_vision_calls
from pytest_vlmlatency.measure.outside import OutsideMarks
from pytest_vlmlatency.records import Call, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.measure.outside import Entry

    Around = Callable[[Inputs], AbstractContextManager[None]]

__tracebackhide__ = True  # an error inside generate() points at the user's own code


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What all calls of a case share. `devices` hold the model; `watch` counts cache flushes."""

    devices: tuple[torch.device, ...]
    watch: FlushWatch
    is_per_token: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What was read around one generate()."""

    inputs: Inputs
    loop: Loop
    output: object
    n_flushes_at_start: int
    n_flushes_inside: int
    evidence: FlushEvidence
    n_compiled: int
    n_threads: int
    contended_ratio: float | None
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One measured call with its context: what the invariants judge, and what is kept of it.

    `n_flushes_at_start` is the watch's count when generate() began.
    """

    observation: Observation
    result: object
    n_flushes_at_start: int

    @property
    def call(self) -> Call:
        """The record of the call."""
        return self.observation.call


def measure_call(
    target: Target,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    phase_map: PhaseMap,
    *,
    recorder: Recorder,
    rig: Rig,
    outside: Sequence[Entry] = (),
    around: Around = lambda _inputs: nullcontext(),
) -> Seen:
    """Call the function once with its model's generate() timed phase by phase.

    `outside` is what vision around generate() begins with. `around` is entered around the timed
    generate(), with what it was given; it is timed, too.
    """
    facts: list[_Facts] = []
    marks = OutsideMarks(outside, recorder)

    def timed(original: Generate, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        recorder.mark(Boundary.GENERATE_CALLED, wait=True)
        with marks.paused():
            facts.append(
                _run(original, args, kwargs, target.model, phase_map, recorder, rig, around)
            )
        recorder.mark(Boundary.GENERATE_RETURNED)
        return facts[0].output

    with recording(recorder), marks.marking():
        recorder.mark(Boundary.CALL_START, wait=True)
        result = call_target(target, args, kwargs, timed)
        recorder.mark(Boundary.CALL_END, wait=True)
    assert facts, "call_target refuses a generate() that did not finish"
    return _seen(facts[0], result, recorder, phase_map, rig)


def _run(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    phase_map: PhaseMap,
    recorder: Recorder,
    rig: Rig,
    around: Around,
) -> _Facts:
    step, _ = part_of(model, phase_map.step)
    generator = step if hasattr(step, "generation_config") else None
    inputs = read_inputs(
        original,
        model,
        args,
        kwargs,
        generator=generator,
        has_vision=phase_map.is_vision_named or bool(phase_map.vision_calls),
    )
    hooks = attached(
        model,
        phase_map,
        recorder,
        n_prompt_forwards=inputs.n_prompt_forwards,
        is_chunked=bool(inputs.settings.get("prefill_chunk_size")),
        is_per_token=rig.is_per_token,
        is_encoder_decoder=inputs.is_encoder_decoder,
    )
    reset_peak_memory(rig.devices)
    counters = allocator_counters(rig.devices)
    n_flushes, n_frames = rig.watch.n_calls, n_compilations()
    looped = watching_loop(model, assistant=inputs.assistant, recorder=recorder)
    with around(inputs), looped as loop, hooks, watching_drafts(step, recorder, inputs):
        contention = ContentionMeter()
        contention.start()
        recorder.mark(Boundary.GENERATE_START, wait=True)
        output = original(*args, **kwargs)
        recorder.mark(Boundary.GENERATE_END, wait=True)
        contended_ratio = contention.stop()
        n_threads = torch.get_num_threads()
    return _Facts(
        inputs=in_force(inputs, loop.innermost),
        loop=loop,
        output=output,
        n_flushes_at_start=n_flushes,
        n_flushes_inside=rig.watch.n_calls - n_flushes,
        evidence=flush_evidence(counters, allocator_counters(rig.devices)),
        n_compiled=n_compilations() - n_frames,
        n_threads=n_threads,
        contended_ratio=contended_ratio,
        peak_bytes=peak_memory_bytes(rig.devices),
    )


def _seen(facts: _Facts, result: object, recorder: Recorder, phase_map: PhaseMap, rig: Rig) -> Seen:
    output = read_output(
        facts.output,
        facts.inputs,
        n_seen=recorder.prompt_length,
        n_start_tokens=phase_map.n_start_tokens,
        ends=facts.loop.row_ends(),
    )
    timeline = read_timeline(recorder.marks, recorder.clock)
    observation = Observation(
        call=_call(facts, output, timeline, recorder, phase_map, is_per_token=rig.is_per_token),
        inputs=facts.inputs,
        output=output,
        recorder=recorder,
        loop=facts.loop,
        phase_map=phase_map,
        n_flushes_inside=facts.n_flushes_inside,
        evidence=facts.evidence,
        n_compiled=facts.n_compiled,
        n_threads=facts.n_threads,
        may_run_one_more=any(device.type == "mps" for device in rig.devices),
    )
    return Seen(
        observation=observation,
        result=result,
        n_flushes_at_start=facts.n_flushes_at_start,
    )


def _call(
    facts: _Facts,
    output: Output,
    timeline: Timeline,
    recorder: Recorder,
    phase_map: PhaseMap,
    *,
    is_per_token: bool,
) -> Call:
    """Return the record of one call; without token ids, tokens are counted by the forwards."""
    n_steps = recorder.n_forwards - facts.inputs.n_prompt_forwards
    n_longest = n_steps + 1 if output.n_longest is None else output.n_longest
    drafts = read_drafts(recorder, facts.inputs, output.n_longest)
    n_vision_tokens, n_text_tokens = count_prompt_tokens(
        facts.inputs, recorder, phase_map, n_drafted=drafts.n_with_prompt
    )
    return Call(
        total=timeline.total,
        outside=timeline.outside,
        spans=timeline.spans,
        n_output_tokens=n_longest,
        n_decode_steps=n_steps,
        n_generated_tokens=_n_generated(facts, output, n_longest),
        n_vision_tokens=n_vision_tokens,
        n_text_tokens=n_text_tokens,
        drafted_lengths=drafts.drafted,
        accepted_lengths=drafts.accepted,
        batch_size=facts.inputs.batch_size,
        n_vision_calls=n_vision_calls(recorder.vision_calls),
        peak_memory_bytes=facts.peak_bytes,
        contended_ratio=facts.contended_ratio,
        decode_step_times_ms=(
            step_times_ms(recorder.step_starts, recorder.marks, recorder.clock)
            if is_per_token
            else None
        ),
    )


def _n_generated(facts: _Facts, output: Output, n_longest: int) -> int | None:
    """Return the tokens of all rows, None where rows may have ended early and nothing shows it."""
    if output.n_generated is not None:
        return output.n_generated
    n_sequences = int(facts.inputs.settings.get("num_return_sequences") or 1)
    has_one_row = facts.inputs.batch_size * n_sequences == 1 and not facts.inputs.has_beams
    return n_longest if has_one_row and output.n_longest is None else None
