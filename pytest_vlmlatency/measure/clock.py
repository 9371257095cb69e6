"""Host and device time behind one protocol.

A Stamp is one moment on every clock that tells something; the difference of two stamps is a
mapping of measures. Owns reading time and waiting for devices; knows nothing of phases.

On the CPU: `perf_counter_ns` and the CPU time of the process. On an accelerator: host time after
the devices are idle, and a device event beside it, so that either can be held against the other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_vlmlatency.records import CPU, DEVICE, WALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NS_PER_MS = 1_000_000


class Event(Protocol):
    """A moment on a device's own clock, as torch.Event is."""

    def synchronize(self) -> None:
        """Wait until the event was reached."""

    def elapsed_time(self, end: Event, /) -> float:
        """Return the milliseconds of device time until `end`, both having been reached."""


class Stamp(NamedTuple):
    """One moment: raw timestamps in ns, and an event for each accelerator in use."""

    wall_ns: int
    cpu_ns: int | None = None
    events: tuple[Event, ...] = ()


Tick = int | Stamp
"""A moment that is told cheaply: wall time in ns alone, or a stamp."""


class Clock(Protocol):
    """What a measurement reads. `device` names what is timed, for people and records."""

    device: str

    def stamp(self, *, wait: bool) -> Stamp:
        """Return this moment; with `wait`, the moment when all queued device work is done."""

    def tick(self) -> Tick:
        """Return this moment as cheaply as it can be told: without waiting, without CPU time."""

    def measures(self, start: Stamp, end: Stamp) -> Mapping[str, float]:
        """Return the time between two stamps in every measure this clock knows, in ms."""


class HostClock:
    """Wall and CPU time of a model that computes on the host: nothing to wait for."""

    device = "cpu"

    def stamp(self, *, wait: bool) -> Stamp:
        """Return this moment."""
        return Stamp(time.perf_counter_ns(), time.process_time_ns())

    tick = staticmethod(time.perf_counter_ns)  # no frame of Python's own: it is called each step

    def measures(self, start: Stamp, end: Stamp) -> Mapping[str, float]:
        """Return wall and CPU time of the process, in ms."""
        return host_measures(start, end)


class DeviceLine(Protocol):
    """One accelerator: something to wait for, that marks moments on its own clock."""

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    def mark(self) -> Event | None:
        """Return an event recorded on the device's current stream, None where none can be had."""


class DeviceClock:
    """Host time after every device in use is idle, with an event on each of them.

    The events are read after the call: reading one before it was reached would wait for it.
    """

    def __init__(self, lines: Sequence[DeviceLine], *, device: str) -> None:
        assert lines, "a device clock without devices is a host clock"
        self.device = device
        self._lines = tuple(lines)

    def stamp(self, *, wait: bool) -> Stamp:
        """Mark this moment on each device; with `wait`, once all of them are idle.

        Waiting comes first: of two devices, one may have been idle long before the other.
        """
        if wait:
            for line in self._lines:
                line.synchronize()
        marks = [line.mark() for line in self._lines]
        events = tuple(event for event in marks if event is not None)
        return Stamp(time.perf_counter_ns(), None, events)

    def tick(self) -> Tick:
        """Return this moment, marked on each device and waited for on none."""
        return self.stamp(wait=False)

    def measures(self, start: Stamp, end: Stamp) -> Mapping[str, float]:
        """Return wall time, and where there are events the longest device time, in ms."""
        measures = {WALL: (end.wall_ns - start.wall_ns) / NS_PER_MS}
        if start.events:
            measures[DEVICE] = max(map(_elapsed_ms, start.events, end.events))
        return measures


def _elapsed_ms(start: Event, end: Event) -> float:
    end.synchronize()
    return start.elapsed_time(end)


def host_measures(start: Stamp, end: Stamp) -> dict[str, float]:
    """Return the wall time between two stamps, and the CPU time where both have it, in ms."""
    measures = {WALL: (end.wall_ns - start.wall_ns) / NS_PER_MS}
    if start.cpu_ns is not None and end.cpu_ns is not None:
        measures[CPU] = (end.cpu_ns - start.cpu_ns) / NS_PER_MS
    return measures
