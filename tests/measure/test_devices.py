"""Accelerators without one: two of which one lags behind, and one that gives no events."""

import pytest
import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.calls.clock import DeviceClock, Event, Stamp, TorchLine
from pytest_vlmlatency.records import DEVICE, WALL
from tests.builders import delayed
from tests.zoo import Specimen, block_modules, vision_module


class Machine:
    """A host that queues work on two devices; times in ms, by one clock that all share."""

    def __init__(self) -> None:
        self.host_ms = 0.0
        self.busy_until_ms = [0.0, 0.0]

    def queue(self, first_ms: float, second_ms: float) -> None:
        """Let the first device work, and then the second on what the first gave."""
        first, second = self.busy_until_ms
        self.host_ms += 1
        first = max(self.host_ms, first) + first_ms
        self.busy_until_ms = [first, max(first, second) + second_ms]

    def wait(self) -> None:
        """Wait for both, as reading a token does."""
        self.host_ms = max(self.host_ms, *self.busy_until_ms)


class FakeEvent:
    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event, /) -> float:
        assert isinstance(end, FakeEvent)
        return end.at_ms - self.at_ms


class Line:
    """One device of a machine."""

    def __init__(self, machine: Machine, index: int) -> None:
        self._machine, self._index = machine, index

    def synchronize(self) -> None:
        machine = self._machine
        machine.host_ms = max(machine.host_ms, machine.busy_until_ms[self._index])

    def mark(self) -> Event:
        return FakeEvent(max(self._machine.host_ms, self._machine.busy_until_ms[self._index]))


class MachineClock(DeviceClock):
    """A device clock over a machine, whose host time is the machine's."""

    def __init__(self, machine: Machine) -> None:
        super().__init__([Line(machine, 0), Line(machine, 1)], device="two")
        self._machine = machine

    def stamp(self, *, wait: bool) -> Stamp:
        stamp = super().stamp(wait=wait)
        return stamp._replace(wall_ns=round(self._machine.host_ms * 1_000_000))


def test_a_device_that_lags_behind_another_is_no_disagreement(llava: Specimen) -> None:
    """By 60 ms at the end of the prompt, for which our boundary alone waits, by 5 at the end."""
    machine = Machine()
    first_works_ms, second_works_ms = 5, 5

    def see() -> None:
        nonlocal first_works_ms, second_works_ms
        first_works_ms, second_works_ms = 40, 60
        machine.queue(20, 30)

    def step() -> None:
        nonlocal first_works_ms, second_works_ms
        machine.wait()
        machine.queue(first_works_ms, second_works_ms)
        first_works_ms, second_works_ms = 5, 5

    with delayed(vision_module(llava), see), delayed(block_modules(llava)[0], step):
        case = measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=2, clock=MachineClock(machine)
        )

    call = case.calls[0]
    assert case.discarded == ()
    assert call.phase_time("prefill", DEVICE) == call.phase_time("prefill", WALL) == 1 + 40 + 60
    assert call.phase_time("decode", DEVICE) == call.phase_time("decode", WALL) == 7 * (1 + 5 + 5)
    assert call.vision_ms == 1 + 20 + 30


def test_a_boundary_after_work_that_is_still_queued_waits_for_both() -> None:
    machine = Machine()
    clock = MachineClock(machine)
    start = clock.stamp(wait=True)
    machine.queue(5, 80)

    end = clock.stamp(wait=True)

    assert clock.measures(start, end) == {WALL: 86, DEVICE: 86}


def test_on_mps_no_events_are_recorded_and_wall_time_alone_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    monkeypatch.setattr(torch, "Event", None)  # calling it would fail
    device = torch.device("mps")
    clock = DeviceClock([TorchLine(device)], device="mps")

    start = clock.stamp(wait=True)
    end = clock.stamp(wait=True)

    assert waited == [device, device]
    assert (start.events, end.events) == ((), ())
    assert set(clock.measures(start, end)) == {WALL}
