"""What must hold before a call is believed.

Pure. A structural invariant that is broken means that the numbers are of another thing than their
names say, so these raise, and nothing is stored. A round that was merely disturbed is another
matter: see `disturbance`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.generation import Mode
from pytest_vlmlatency.calls.loop import ONE_EACH
from pytest_vlmlatency.calls.timeline import Boundary
from pytest_vlmlatency.discovery.one_prompt import find_second_prompt
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.machine.allocator import FlushEvidence
from pytest_vlmlatency.options import name_by_hand
from pytest_vlmlatency.records import DEVICE, Call, Phase, PhaseMap, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.calls.loop import Loop
    from pytest_vlmlatency.calls.output import Output
    from pytest_vlmlatency.calls.recorder import Recorder, VisionCall
    from pytest_vlmlatency.calls.workload import Inputs

SUM_TOLERANCE_MS = 1e-6
"""Rounding of a few float additions; timestamps themselves are whole nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One call with everything that was seen of it."""

    call: Call
    inputs: Inputs
    output: Output
    recorder: Recorder
    loop: Loop
    phase_map: PhaseMap
    n_flushes_inside: int
    evidence: FlushEvidence
    n_compiled: int
    n_threads: int
    may_run_one_more: bool


def check_structure(seen: Observation) -> None:
    """Raise InvalidMeasurement for the first structural invariant that a call breaks."""
    _check_boundaries(seen)
    _check_prompt(seen)
    _check_one_prompt(seen)
    _check_decode(seen.call)
    _check_sum(seen.call)
    _check_flush(seen)
    _check_vision(seen)
    _check_steps(seen)


def _check_boundaries(seen: Observation) -> None:
    """Every boundary fired, in order."""
    fired = Counter(mark.boundary for mark in seen.recorder.marks)
    if not fired[Boundary.PROMPT_READY]:
        raise InvalidMeasurement(
            f"the step module {seen.phase_map.step!r} was never seen to finish the prompt; "
            f"expected its hook to fire: it was replaced, or compiled together with its caller "
            f"before it was measured. Measure it uncompiled, or compile its blocks one by one"
        )
    if seen.recorder.is_block_in_prompt is None:
        raise InvalidMeasurement(
            f"the hook on the first block {seen.phase_map.blocks[0]!r} never fired; expected it to "
            f"run in the prompt's forward: a forward around it was compiled before it was "
            f"measured, and a compiled graph skips hooks. Compile the blocks one by one "
            f"(block.forward = torch.compile(block.forward)), or measure the model uncompiled"
        )
    phase_map = seen.phase_map
    entries = (*phase_map.vision, *phase_map.vision_methods, *phase_map.feature_owners)
    may_be_unseen = phase_map.is_vision_named and not entries  # the user wants no such phase
    if seen.inputs.has_pixels and not seen.recorder.vision_calls and not may_be_unseen:
        raise InvalidMeasurement(
            f"pixels were passed but vision was never seen to run; expected a call of "
            f"{', '.join(map(repr, entries)) or 'a vision module'}: it was compiled together with "
            f"its caller, or its result was reused from an earlier call"
        )
    if not seen.recorder.is_block_in_prompt:
        raise InvalidMeasurement(
            f"the first block {seen.phase_map.blocks[0]!r} ran only after the prompt's logits were "
            f"ready; expected it inside the prompt's forward: the step module is another one"
        )


def _check_prompt(seen: Observation) -> None:
    """As many forwards made the prompt ready as its chunks."""
    n_forwards, expected = seen.recorder.n_prompt_forwards, seen.inputs.n_prompt_forwards
    if n_forwards != expected:
        raise InvalidMeasurement(
            f"{n_forwards} forwards ran until the prompt's logits were ready; expected {expected}: "
            f"the step module {seen.phase_map.step!r} is called for something else too, or the "
            f"prompt was split otherwise; name the step with phases={{'step': ...}}"
        )


def _check_one_prompt(seen: Observation) -> None:
    """No other prompt was generated from, by a generate() inside or by the step itself."""
    seen.loop.check()
    n_chunks = seen.inputs.n_prompt_forwards
    widths = seen.recorder.widths[n_chunks if n_chunks > 1 else 0 :]
    if seen.inputs.mode in (Mode.ASSISTED, Mode.GUIDED, Mode.CUSTOM):
        return
    second = find_second_prompt(widths)
    if second is not None:
        raise InvalidMeasurement(
            f"a forward of the step module {seen.phase_map.step!r} was given {widths[second]} "
            f"tokens after one of {widths[second - 1]}; expected one more each time: {ONE_EACH}"
        )


def _check_decode(call: Call) -> None:
    for measure in call.total:
        decode_ms = call.phase_time(Phase.DECODE, measure)
        if call.n_output_tokens and not decode_ms > 0:
            raise InvalidMeasurement(
                f"decode took {decode_ms} {measure} although {call.n_output_tokens} tokens came "
                f"out; expected more than 0: decode runs from the prompt's logits to the return "
                f"of generate(), so the clock stood still or the last boundary came too late"
            )


def _check_sum(call: Call) -> None:
    parts = [span for span in call.spans if span.place is Place.PART]
    for measure, total_ms in call.total.items():
        sum_ms = math.fsum(span.measures[measure] for span in parts)
        if abs(sum_ms - total_ms) > SUM_TOLERANCE_MS and measure != DEVICE:
            raise InvalidMeasurement(
                f"the phases add up to {sum_ms:.6f} {measure} but generate() took "
                f"{total_ms:.6f}; expected the same: "
                + ", ".join(f"{span.name} {span.measures[measure]:.6f}" for span in parts)
            )


def _check_flush(seen: Observation) -> None:
    has_evidence = seen.evidence in (FlushEvidence.FLUSHED, FlushEvidence.RETRIED)
    if seen.n_flushes_inside or has_evidence:
        how = (
            f"empty_cache() was called {seen.n_flushes_inside} times"
            if seen.n_flushes_inside
            else seen.evidence.basis
        )
        raise InvalidMeasurement(
            f"while generate() was measured, {how}; expected no cache flush inside: what follows "
            f"it pays for allocating anew, so the phases are not of one state. Remove the flush "
            f"from the model or the called function; if the device is out of memory, ask for less"
        )


def _check_vision(seen: Observation) -> None:
    calls = seen.recorder.vision_calls
    if calls and not seen.inputs.has_pixels and not seen.phase_map.is_vision_named:
        raise InvalidMeasurement(
            f"vision ran ({calls[0].path}) although no pixels were passed; expected none"
        )
    late = Counter(call.path for call in calls if call.is_late)
    if late and not seen.phase_map.is_vision_named:
        raise InvalidMeasurement(
            f"vision ran again after the prompt's logits: {_counts(late)}; expected it once, "
            f"before them. The model recomputes vision (use_cache=False, or a forward that keeps "
            f"the pixels); {name_by_hand('vision')}"
        )
    runs = Counter(call.path for call in calls if not call.is_late)
    if runs and dict(runs) != dict(seen.phase_map.vision_calls):
        raise InvalidMeasurement(
            f"vision ran otherwise than when the model was watched: {_counts(runs)} now, "
            f"{_counts(seen.phase_map.vision_calls)} then; expected the same calls for the same "
            f"prompt: the model keeps state from call to call, or its parts were replaced"
        )


def _counts(runs: Mapping[str, int]) -> str:
    return ", ".join(f"{path} {n_calls} times" for path, n_calls in runs.items()) or "not at all"


def n_vision_calls(calls: Sequence[VisionCall]) -> int:
    """Return how often vision ran: the calls of the entry that was called most often."""
    return max(Counter(call.path for call in calls).values(), default=0)


def _check_steps(seen: Observation) -> None:
    """Step forwards agree with the tokens, by the rule of the decoding mode."""
    n_steps, n_tokens = seen.call.n_decode_steps, seen.output.n_longest
    if n_tokens is None or seen.inputs.mode is Mode.CUSTOM:
        return
    expected = n_tokens - 1
    match seen.inputs.mode:
        case Mode.GREEDY | Mode.SAMPLE:
            n_more = max(seen.may_run_one_more, _n_more_of_its_own(seen.phase_map))
            is_right = 0 <= n_steps - expected <= n_more
            rule = f"{expected}, one for each token after the first"
        case Mode.BEAM:
            is_right = n_steps >= expected
            rule = f"at least {expected}, since the best beam may end before the search does"
        case Mode.GUIDED:
            is_right = n_steps >= expected
            rule = f"at least {expected}, since guidance runs the model once more for a token"
        case Mode.ASSISTED:
            is_right = n_steps <= expected
            rule = f"at most {expected}, since a forward verifies one token or more"
    if not is_right and not seen.phase_map.is_step_named:
        raise InvalidMeasurement(
            f"{seen.inputs.mode} decoding ran {n_steps} step forwards after the prompt's for "
            f"{n_tokens} output tokens; expected {rule}: the step module "
            f"{seen.phase_map.step!r} may be the wrong one, or the loop may return other tokens "
            f"than its forwards gave; name the step to measure it so, with phases={{'step': ...}}"
        )


def _n_more_of_its_own(phase_map: PhaseMap) -> int:
    """Return how many further forwards a loop of the model's own may run.

    One that gives its steps the tokens that it returns may run its forward for the last token, too,
    or for the end token that it keeps to itself, and as many after it as the watched call did.
    """
    is_own = phase_map.is_fed and not phase_map.has_step_preparation
    return 1 + phase_map.n_ahead if is_own else 0


def n_further_steps(seen: Observation) -> int:
    """Return by how many the decode steps exceed one for each token after the first."""
    if seen.output.n_longest is None or seen.inputs.mode not in (Mode.GREEDY, Mode.SAMPLE):
        return 0
    return seen.call.n_decode_steps - (seen.output.n_longest - 1)


def check_inputs(first: Inputs, this: Inputs) -> None:
    """Raise if a call was given other shapes than the first one, before it runs."""
    _raise_other_work(first.shapes, this.shapes, which="a later call")


def check_work(first: Observation, this: Observation, *, round_index: int) -> None:
    """Raise if a round did other work than the first one: its times are of something else."""
    _raise_other_work(_work(first), _work(this), which=f"round {round_index + 1}")


def _raise_other_work(
    before: Mapping[str, object], now: Mapping[str, object], *, which: str
) -> None:
    differences = [
        f"{name}: {before.get(name)} then {now.get(name)}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise InvalidMeasurement(
            f"{which} did other work than the first one: {'; '.join(differences)}. Expected the "
            f"same work in every round: pass setup=, a function that returns fresh (args, kwargs) "
            f"for each round (a cache that a call has grown, changed inputs), or fix the lengths "
            f"with min_new_tokens and max_new_tokens"
        )


def _work(seen: Observation) -> dict[str, object]:
    return {
        **seen.inputs.shapes,
        "vision tokens": seen.call.n_vision_tokens,
        "text tokens": seen.call.n_text_tokens,
        "output tokens": seen.call.n_output_tokens,
        "generated tokens in all": seen.call.n_generated_tokens,
        "decode steps": seen.call.n_decode_steps,
        "runs of vision around generate()": seen.recorder.n_outside,
    }


def check_same_output(reference: str, measured: str) -> None:
    """Raise if measuring changed what greedy decoding returns."""
    if reference != measured:
        raise InvalidMeasurement(
            f"the measured call returned other tokens (digest {measured}) than two unmeasured ones "
            f"(digest {reference}, twice); expected the same: measuring disturbed the model, or "
            f"the model keeps state from call to call"
        )
