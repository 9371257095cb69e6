"""Host and device time behind one protocol.

A Stamp is one moment on every clock that tells something; the difference of two stamps is a
mapping of measures. Owns reading time and waiting for devices; knows nothing of phases.

On the CPU: `perf_counter_ns` and the CPU time of the process. On an accelerator: host time after
the devices are idle, and a device event beside it, so that either can be held against the other.

Where a model's tensors are, and the clock that follows from it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from pytest_vlmlatency.errors import NoAccelerator
from pytest_vlmlatency.records import CPU, DEVICE, WALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


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


def model_devices(model: torch.nn.Module) -> tuple[torch.device, ...]:
    """Return every device that holds a parameter or buffer, or computes, in a fixed order.

    Tensors on the meta device (offloaded weights) have no place yet and do not count: where they
    compute is said by the hooks that fetch them.
    """
    tensors = [*model.parameters(), *model.buffers()]
    devices = {tensor.device for tensor in tensors if tensor.device.type != "meta"}
    if any(tensor.device.type == "meta" for tensor in tensors):
        devices |= set(_execution_devices(model))
    return tuple(sorted(devices, key=str)) or (torch.device("cpu"),)


def _execution_devices(model: torch.nn.Module) -> Iterator[torch.device]:
    """Yield where accelerate's hooks let each module of a model compute."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in (hook, *getattr(hook, "hooks", ())):
            device = getattr(one, "execution_device", None)
            if isinstance(device, int):
                accelerator = torch.accelerator.current_accelerator()
                yield torch.device(accelerator.type if accelerator else "cpu", device)
            elif device is not None:
                yield torch.device(device)


def check_devices(devices: Sequence[torch.device], wanted: str | None) -> None:
    """Raise NoAccelerator if the model is not on the device that the measurement was asked for.

    A kind without an index ("cuda") is met by any number of devices of that kind. Tensors on the
    CPU beside an accelerator's (offloaded weights, small buffers) are allowed.
    """
    if wanted is None:
        return
    expected = torch.device(wanted)
    accelerators = [device for device in devices if device.type != "cpu"]
    misplaced = [
        device
        for device in accelerators
        if device.type != expected.type or (":" in wanted and device.index != expected.index)
    ]
    if misplaced or bool(accelerators) != (expected.type != "cpu"):
        raise NoAccelerator(
            f"the measurement was asked for on {wanted}, but the model is on "
            f"{', '.join(map(str, devices))}; expected all of it on {wanted}: move it there with "
            f"model.to({wanted!r}), or measure without --gpu and --vlm-device"
        )


def clock_for(devices: Sequence[torch.device]) -> Clock:
    """Return a host clock for a model on the CPU, else a clock over all its accelerators."""
    accelerators = [device for device in devices if device.type != "cpu"]
    if not accelerators:
        return HostClock()
    names = ", ".join(_describe(device) for device in accelerators)
    return DeviceClock([TorchLine(device) for device in accelerators], device=names)


class TorchLine:
    """One accelerator through torch's device-agnostic API."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def synchronize(self) -> None:
        """Wait for this device; torch.cuda.synchronize() alone would wait for the current one."""
        torch.accelerator.synchronize(self._device)

    def mark(self) -> Event | None:
        """Return a timed event recorded on the device's current stream; None on MPS.

        There, reading the time between two events was reported to hang after a synchronisation.
        """
        if self._device.type == "mps":
            return None
        event = torch.Event(device=self._device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self._device))
        return event  # type: ignore[return-value]  # torch names the argument


def _describe(device: torch.device) -> str:
    backend = getattr(torch, device.type, None)
    name = getattr(backend, "get_device_name", None)
    return f"{device} ({name(device)})" if callable(name) else str(device)
