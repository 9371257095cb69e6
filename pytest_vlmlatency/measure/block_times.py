"""When each decoder block ran: a detail that slows the call, so never part of a measurement.

Owns the hooks around the blocks and what they saw; the phases come from the marks of the same call.
Blocks inside compiled code are refused: hooks there do not fire, or have it compiled anew.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.compilation import is_compiled
from pytest_vlmlatency.measure.handles import Handles, part_of
from pytest_vlmlatency.measure.hooks import COMPILED_CALL, Method, replaced_method
from pytest_vlmlatency.measure.regions import region_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from pytest_vlmlatency.measure.clock import Clock, Tick
    from pytest_vlmlatency.records import PhaseMap


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
