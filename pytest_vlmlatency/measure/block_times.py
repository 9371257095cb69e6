"""When each decoder block ran: a detail that slows the call, so never part of a measurement.

Owns the hooks around the blocks and what they saw; the phases come from the marks of the same call.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.measure.handles import Handles

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pytest_vlmlatency.measure.clock import Clock, Tick


class BlockRun(NamedTuple):
    """One run of one block."""

    path: str
    start: Tick
    end: Tick


@contextmanager
def block_times(
    model: torch.nn.Module, blocks: Sequence[str], clock: Clock
) -> Iterator[list[BlockRun]]:
    """Note when each block starts and ends while the block of code runs, waiting for no device."""
    runs: list[BlockRun] = []
    started: dict[str, Tick] = {}

    def start(path: str, *_: object) -> None:
        started[path] = clock.tick()

    def end(path: str, *_: object) -> None:
        runs.append(BlockRun(path, started.pop(path), clock.tick()))

    with Handles() as handles:
        for path in blocks:
            module = model.get_submodule(path)
            handles.pre(module, functools.partial(start, path))
            handles.post(module, functools.partial(end, path))
        yield runs
