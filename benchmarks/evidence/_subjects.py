"""The engine's own rounds, one at a time, so that other calls can go in between.

`measure_generate` makes its rounds in one go. Here the same object makes them, on the same pinned
thread, with the same clock; only whose turn it is, is decided elsewhere.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.clock import HostClock
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.machine.allocator import FlushWatch
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.measure.isolation import no_garbage_collection, remember_random_state
from pytest_vlmlatency.measure.subject import Subject
from pytest_vlmlatency.measure.timed import Rig
from pytest_vlmlatency.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_vlmlatency.records import Call

CPU_DEVICE = (torch.device("cpu"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A generate() and its arguments, under the name that the evidence uses."""

    name: str
    generate: Callable[..., object]
    kwargs: Mapping[str, object]

    def run(self) -> object:
        """Call generate, unmeasured."""
        return self.generate(**self.kwargs)


@contextmanager
def watched_machine(*, threads: int = 1) -> Iterator[FlushWatch]:
    """Pin the threads and watch for cache flushes, as around every measurement."""
    with pinned_threads(threads), FlushWatch() as watch:
        yield watch


def warm_subject(
    workload: Workload, watch: FlushWatch, *, rounds: int, per_token: bool = False
) -> Subject:
    """Return a subject whose phases are known and whose warm-up calls are done."""
    subject = Subject(
        find_target(workload.generate, (), workload.kwargs, None),
        options=Options(rounds=rounds, per_token=per_token),
        config=None,
        clock=HostClock(),
        rig=Rig(devices=CPU_DEVICE, watch=watch, is_per_token=per_token),
        restore_random=remember_random_state(CPU_DEVICE),
    )
    while not subject.is_warm:
        subject.warm_up()
    return subject


def next_call(subject: Subject) -> Call:
    """Make one round and return its call, whether it was kept or discarded."""
    n_discarded = len(subject.discarded)
    subject.measure_round(started_ms=0.0)
    was_discarded = len(subject.discarded) > n_discarded
    return subject.discarded[-1] if was_discarded else subject.calls[-1]


def bare_time(function: Callable[[], object]) -> Mapping[str, float]:
    """Call a function with nothing of ours attached; return its times by the same clock, in ms."""
    clock = HostClock()
    with no_garbage_collection():
        start = clock.stamp(wait=True)
        function()
        end = clock.stamp(wait=True)
    return clock.measures(start, end)
