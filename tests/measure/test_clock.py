"""Clocks: what waits for whom, and which devices' time is told."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.clock import (
    DeviceClock,
    Event,
    HostClock,
    Stamp,
    TorchLine,
    check_devices,
    clock_for,
    model_devices,
)
from pytest_vlmlatency.errors import NoAccelerator
from pytest_vlmlatency.machine.allocator import FlushEvidence
from pytest_vlmlatency.measure.invariants import Observation
from pytest_vlmlatency.measure.stopping import timing_problem
from pytest_vlmlatency.records import CPU, DEVICE, WALL, Call
from tests.builders import delayed
from tests.zoo import Specimen, block_modules, vision_module


class FakeEvent:
    def __init__(self, at_ms: float) -> None:
        self.at_ms = at_ms

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event, /) -> float:
        assert isinstance(end, FakeEvent)
        return end.at_ms - self.at_ms


class FakeLine:
    """A device whose clock a test moves, and that writes down what was asked of it."""

    def __init__(self, log: list[str], name: str = "device") -> None:
        self.now_ms = 0.0
        self._log, self._name = log, name

    def synchronize(self) -> None:
        self._log.append(f"wait for {self._name}")

    def mark(self) -> Event:
        self._log.append(f"mark {self._name}")
        return FakeEvent(self.now_ms)


def test_a_host_clock_tells_wall_and_cpu_time() -> None:
    clock = HostClock()
    start = clock.stamp(wait=False)

    measures = clock.measures(start, clock.stamp(wait=True))

    assert set(measures) == {WALL, CPU}
    assert measures[WALL] > 0


def test_each_device_is_waited_for_before_any_is_marked() -> None:
    log: list[str] = []
    clock = DeviceClock([FakeLine(log, "a"), FakeLine(log, "b")], device="two")

    clock.stamp(wait=True)

    assert log == ["wait for a", "wait for b", "mark a", "mark b"]


def test_an_unimportant_boundary_waits_for_no_device() -> None:
    log: list[str] = []

    DeviceClock([FakeLine(log)], device="one").stamp(wait=False)

    assert log == ["mark device"]


def test_of_several_devices_the_slowest_is_told() -> None:
    first, second = FakeLine([]), FakeLine([])
    clock = DeviceClock([first, second], device="two")
    start = clock.stamp(wait=True)
    first.now_ms, second.now_ms = 3.0, 8.0

    assert clock.measures(start, clock.stamp(wait=True))[DEVICE] == 8.0


def test_four_boundaries_of_a_call_are_waited_for(llava: Specimen) -> None:
    """Start, end of vision, end of prefill and end; and two around generate's own call."""
    log: list[str] = []
    clock = DeviceClock([FakeLine(log)], device="fake")
    with pytest.raises(InvalidMeasurement, match=r"decode took 0.0 device_ms"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, clock=clock)

    assert log.count("wait for device") == 4 + 3


def seen_with(
    wall_ms: float, device_ms: float, *, evidence: FlushEvidence = FlushEvidence.CLEAN
) -> Observation:
    call = Call(
        total={WALL: wall_ms, DEVICE: device_ms},
        outside={WALL: 0.0},
        spans=(),
        n_output_tokens=1,
        n_decode_steps=0,
        n_generated_tokens=1,
        n_vision_tokens=0,
        n_text_tokens=1,
        batch_size=1,
        n_vision_calls=0,
    )
    seen = SimpleNamespace(call=call, evidence=evidence, n_compiled=0)
    return cast("Observation", seen)


def test_host_and_device_time_that_agree_are_believed() -> None:
    assert timing_problem(seen_with(100.0, 100.9)) is None


def test_host_and_device_time_that_disagree_discard_the_round() -> None:
    problem = timing_problem(seen_with(100.0, 101.1))

    assert problem == (
        "total took 100.000 ms by the host but 101.100 ms by the device, "
        "further apart than 1.040 ms"
    )


def test_an_allocator_that_still_grows_discards_the_round() -> None:
    problem = timing_problem(seen_with(100.0, 100.0, evidence=FlushEvidence.COLD))

    assert problem == FlushEvidence.COLD.basis


def test_a_model_on_the_cpu_has_a_host_clock(llava: Specimen) -> None:
    devices = model_devices(llava.model)

    assert devices == (torch.device("cpu"),)
    assert isinstance(clock_for(devices), HostClock)


def test_offloaded_weights_have_no_place() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))

    assert model_devices(model) == (torch.device("cpu"),)


def test_a_model_elsewhere_than_asked_is_refused(llava: Specimen) -> None:
    with pytest.raises(NoAccelerator, match=r"asked for on cuda:1, but the model is on cpu"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, device="cuda:1")


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        ("cuda", ["cuda:0"]),
        ("cuda", ["cuda:1"]),
        ("cuda", ["cpu", "cuda:0", "cuda:1"]),
        ("cuda:1", ["cpu", "cuda:1"]),
        ("cpu", ["cpu"]),
        (None, ["xpu:0"]),
    ],
)
def test_a_model_where_it_was_asked_for_is_measured(wanted: str | None, devices: list[str]) -> None:
    check_devices([torch.device(device) for device in devices], wanted)


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        ("cuda", ["cpu"]),
        ("cuda:0", ["cuda:1"]),
        ("cuda:0", ["cuda:0", "cuda:1"]),
        ("xpu", ["cuda:0"]),
        ("cpu", ["cpu", "cuda:0"]),
    ],
)
def test_a_model_somewhere_else_is_refused(wanted: str, devices: list[str]) -> None:
    with pytest.raises(NoAccelerator, match=f"asked for on {wanted}, but the model is on"):
        check_devices([torch.device(device) for device in devices], wanted)


class FakeAccelerator:
    """Stands in for torch.accelerator and torch.Event, and writes down what it was told."""

    def __init__(self) -> None:
        self.log: list[object] = []

    def synchronize(self, device: torch.device) -> None:
        self.log.append(("synchronize", device))

    def current_stream(self, device: torch.device) -> str:
        return f"stream of {device}"

    def event(self, *, device: torch.device, enable_timing: bool) -> "FakeAccelerator":
        self.log.append(("event", device, enable_timing))
        return self

    def record(self, stream: str) -> None:
        self.log.append(("record", stream))


def test_a_device_is_marked_on_its_own_stream_and_waited_for_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeAccelerator()
    monkeypatch.setattr(torch.accelerator, "synchronize", fake.synchronize)
    monkeypatch.setattr(torch.accelerator, "current_stream", fake.current_stream)
    monkeypatch.setattr(torch, "Event", fake.event)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    device = torch.device("cuda", 1)
    clock = clock_for([device, torch.device("cpu")])
    line = TorchLine(device)

    line.mark()
    line.synchronize()

    assert isinstance(clock, DeviceClock)
    assert clock.device == "cuda:1 (GPU 1)"
    assert fake.log == [
        ("event", device, True),
        ("record", "stream of cuda:1"),
        ("synchronize", device),
    ]


def test_device_time_is_kept_beside_wall_time(llava: Specimen) -> None:
    line = FakeLine([])
    clock = LinkedClock(line)
    with (
        delayed(vision_module(llava), lambda: clock.advance_ms(20)),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, clock=clock)

    assert case.calls[0].phase_time("vision", DEVICE) == 20
    assert case.calls[0].vision_ms == 20
    assert case.calls[0].vision_cpu_ms is None
    assert case.gating_measure == WALL


class LinkedClock(DeviceClock):
    """A device clock whose host and device move together."""

    def __init__(self, line: FakeLine) -> None:
        super().__init__([line], device="fake")
        self._line = line

    def advance_ms(self, ms: float) -> None:
        self._line.now_ms += ms

    def stamp(self, *, wait: bool) -> Stamp:
        stamp = super().stamp(wait=wait)
        return stamp._replace(wall_ns=round(self._line.now_ms * 1_000_000))


def test_the_times_between_two_stamps_are_in_ms() -> None:
    start = Stamp(wall_ns=1_000_000, cpu_ns=2_000_000, events=())
    end = Stamp(wall_ns=9_500_000, cpu_ns=7_000_000, events=())

    assert HostClock().measures(start, end) == {WALL: 8.5, CPU: 5.0}
