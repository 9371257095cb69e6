"""One measured call to look at, made as every round is: same warm-up, same checks, same recorder.

Owns the order of those calls. What is seen of one call says what a model does, and not how fast it
is: no Case comes out of here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.allocator import FlushWatch
from pytest_vlmlatency.measure.block_times import BlockRun, block_times
from pytest_vlmlatency.measure.devices import check_devices, clock_for, model_devices
from pytest_vlmlatency.measure.interception import call_target
from pytest_vlmlatency.measure.override import read_override
from pytest_vlmlatency.measure.preparation import prepared
from pytest_vlmlatency.measure.quiet import quiet_machine
from pytest_vlmlatency.measure.repeatability import remember_random_state
from pytest_vlmlatency.measure.subject import Subject
from pytest_vlmlatency.measure.timed import Rig
from pytest_vlmlatency.measure.watch import trace_call
from pytest_vlmlatency.measure.workload import read_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.measure.clock import Clock
    from pytest_vlmlatency.measure.interception import Generate, Target
    from pytest_vlmlatency.measure.invariants import Observation
    from pytest_vlmlatency.measure.rounds import Progress
    from pytest_vlmlatency.measure.trace import Trace
    from pytest_vlmlatency.options import Options

N_ATTEMPTS = 3
"""How often a call is made until none of its timing bounds is broken; then the last one is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """One measured call, and a watched one beside it that shows which module called which.

    `disturbed_because` is the timing bound that the call broke, None if it broke none. `block_runs`
    are there if they were asked for. `is_repeatable`: unmeasured calls returned what this one did.
    """

    observation: Observation
    trace: Trace
    device: str
    disturbed_because: str | None
    is_repeatable: bool
    block_runs: tuple[BlockRun, ...]


def observe(
    target: Target,
    options: Options,
    *,
    has_blocks: bool = False,
    clock: Clock | None = None,
    report: Progress,
) -> Single:
    """Measure one call, with `has_blocks` each decoder block too; refuse what a case would."""
    devices = model_devices(target.model)
    check_devices(devices, options.device)
    clock = clock or clock_for(devices)
    with quiet_machine(target, devices, options), FlushWatch() as watch:
        subject = Subject(
            target,
            options=options,
            config=options.config,
            clock=clock,
            rig=Rig(devices=devices, watch=watch, is_per_token=options.per_token),
            restore_random=remember_random_state(devices),
        )
        report("finding the phases")
        while not subject.is_warm:
            subject.warm_up()
        report("one measured call")
        runs = _measure_once(subject, clock, has_blocks=has_blocks)
        assert subject.last is not None, "a round leaves its observation"
        trace = _traced(target, options, subject.last)
    return Single(
        observation=subject.last,
        trace=trace,
        device=subject.device,
        disturbed_because=subject.problem,
        is_repeatable=subject.is_repeatable,
        block_runs=runs,
    )


def _measure_once(subject: Subject, clock: Clock, *, has_blocks: bool) -> tuple[BlockRun, ...]:
    """Make the measured call, and again while it was disturbed."""
    assert subject.phase_map is not None, "a warm subject has its phases"
    for _ in range(N_ATTEMPTS):
        blocks: AbstractContextManager[list[BlockRun]] = nullcontext([])
        if has_blocks:
            blocks = block_times(subject.target.model, subject.phase_map, clock)
        with blocks as seen:
            subject.measure_round(started_ms=0.0)
        runs = tuple(seen)
        if subject.problem is None:
            break
    return runs


def _traced(target: Target, options: Options, seen: Observation) -> Trace:
    """Watch one more call, for what ran inside each phase; longer where it had no decode step."""
    traces: list[Trace] = []
    named = read_override(target.model, options.phases or {})

    def watch(original: Generate, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        inputs = read_inputs(original, target.model, args, kwargs)
        output, trace = trace_call(
            original,
            args,
            kwargs,
            target.model,
            inputs,
            methods=named.vision_methods,
            others=named.methods,
            is_longer=not seen.call.n_decode_steps,
        )
        traces.append(trace)
        return output

    with prepared(target, options.config, options.setup) as (args, kwargs):
        call_target(target, args, kwargs, watch)
    return traces[0]
