"""One measured call to look at, made as every round is: same warm-up, same checks, same recorder.

Owns the order of those calls. What is seen of one call says what a model does, and not how fast it
is: no Case comes out of here.

When each decoder block ran: a detail that slows the call, so never part of a measurement.

Owns the hooks around the blocks and what they saw; the phases come from the marks of the same call.
Blocks inside compiled code are refused: hooks there do not fire, or have it compiled anew.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.calls.clock import check_devices, clock_for, model_devices
from pytest_vlmlatency.calls.compilation import is_compiled
from pytest_vlmlatency.calls.handles import Handles, part_of
from pytest_vlmlatency.calls.hooks import COMPILED_CALL, Method, replaced_method
from pytest_vlmlatency.calls.interception import call_target
from pytest_vlmlatency.calls.workload import read_inputs
from pytest_vlmlatency.discovery.compiled_regions import region_name
from pytest_vlmlatency.discovery.override import read_override
from pytest_vlmlatency.discovery.watch import trace_call
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.machine.allocator import FlushWatch
from pytest_vlmlatency.machine.turns import alone_with
from pytest_vlmlatency.measure.isolation import quiet_machine, remember_random_state
from pytest_vlmlatency.measure.subject import Subject, prepared
from pytest_vlmlatency.measure.timed import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.calls.clock import Clock, Tick
    from pytest_vlmlatency.calls.interception import Generate, Target
    from pytest_vlmlatency.discovery.trace import Trace
    from pytest_vlmlatency.measure.invariants import Observation
    from pytest_vlmlatency.measure.rounds import Progress
    from pytest_vlmlatency.options import Options
    from pytest_vlmlatency.records import PhaseMap


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
    with (
        alone_with(devices, progress=report),
        quiet_machine(target, devices, options),
        FlushWatch() as watch,
    ):
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


class BlockRun(NamedTuple):
    """One run of one block."""

    path: str
    start: Tick
    end: Tick


@contextmanager
def block_times(
    model: torch.nn.Module, phase_map: PhaseMap, clock: Clock
) -> Iterator[list[BlockRun]]:
    """Note when each block starts and ends while the block of code runs, waiting for no device."""
    if phase_map.entry not in (None, phase_map.blocks[0]):
        raise _hidden(f"in {region_name(phase_map.entry or '')}, which is compiled as a whole")
    runs: list[BlockRun] = []
    started: dict[str, Tick] = {}

    def start(path: str, *_: object) -> None:
        started[path] = clock.tick()

    def end(path: str, *_: object) -> None:
        runs.append(BlockRun(path, started.pop(path), clock.tick()))

    with ExitStack() as undo:
        handles = undo.enter_context(Handles())
        for path in phase_map.blocks:
            handles.pre_of(model, path, functools.partial(start, path))
            handles.post_of(model, path, functools.partial(end, path))
        _refuse_compiled_steps(part_of(model, phase_map.step)[0], undo)
        yield runs


def _refuse_compiled_steps(step: torch.nn.Module, undo: ExitStack) -> None:
    """Raise if generate() is about to run steps that it compiles itself, as for a static cache."""
    method: Method | None = getattr(step, COMPILED_CALL, None)
    if method is None:
        return

    @functools.wraps(method)
    def compiled_call(*args: object, **kwargs: object) -> object:
        call = method(*args, **kwargs)
        if is_compiled(call):
            raise _hidden("in decode steps, which generate() compiles by itself")
        return call

    undo.enter_context(replaced_method(step, COMPILED_CALL, compiled_call))


def _hidden(where: str) -> InvalidMeasurement:
    return InvalidMeasurement(
        f"the blocks run {where}: hooks inside compiled code do not fire, so the blocks cannot be "
        f"timed one by one; expected blocks outside of compiled code. Leave the blocks out, or "
        f"look at the model uncompiled (disable_compile=True keeps generate() from compiling)"
    )
