from __future__ import annotations

import os
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.machine.device_state import read_device_states, throttle_reasons
from pytest_vlmlatency.records import DeviceState
from tests.measure.fake_nvml import FakeGpu, FakeNvml, visible_to_torch

CUDA_0 = torch.device("cuda:0")
CUDA_1 = torch.device("cuda:1")
NOTHING_KNOWN = DeviceState(
    sm_clock_mhz=None, memory_clock_mhz=None, temperature_c=None, power_w=None, throttle_reasons=()
)


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, *uuids: str | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", visible_to_torch(*uuids))


def test_a_state_holds_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(gpus=[FakeGpu("aa", reasons=0x4, pids=[os.getpid(), 7])])
    install(monkeypatch, nvml, "aa")

    states = read_device_states([CUDA_0])

    assert states == (
        DeviceState(
            sm_clock_mhz=1980,
            memory_clock_mhz=2619,
            temperature_c=41,
            power_w=250.5,
            throttle_reasons=("power cap",),
            n_other_processes=1,
        ),
    )
    assert nvml.n_open == 0


def test_devices_are_found_by_uuid_when_cuda_visible_devices_hides_or_reorders_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus = [
        FakeGpu("aa", temperature_c=30),
        FakeGpu("bb", temperature_c=40),
        FakeGpu("cc", temperature_c=50),
    ]
    install(monkeypatch, FakeNvml(gpus=gpus), "cc", "aa")

    states = read_device_states([CUDA_0, CUDA_1])

    assert [state.temperature_c for state in states] == [50, 30]


def test_a_slice_of_a_gpu_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(gpus=[FakeGpu("aa", prefix="MIG", temperature_c=33)]), "aa")

    assert read_device_states([CUDA_0])[0].temperature_c == 33


@pytest.mark.parametrize("uuid", ["zz", None])
def test_a_device_that_the_driver_does_not_know_has_a_state_that_knows_nothing(
    monkeypatch: pytest.MonkeyPatch, uuid: str | None
) -> None:
    install(monkeypatch, FakeNvml(gpus=[FakeGpu("aa")]), "aa", uuid)

    states = read_device_states([CUDA_0, CUDA_1])

    assert states[0].temperature_c == 41
    assert states[1] == NOTHING_KNOWN


def test_what_a_device_does_not_support_is_none_and_the_rest_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = ("PowerUsage", "Temperature", "ComputeRunningProcesses")
    gpu = FakeGpu("aa", refuses=[f"nvmlDeviceGet{question}" for question in refused])
    install(monkeypatch, FakeNvml(gpus=[gpu]), "aa")

    (state,) = read_device_states([CUDA_0])

    assert (state.power_w, state.temperature_c, state.sm_clock_mhz) == (None, None, 1980)
    assert state.n_other_processes is None


def test_an_older_library_is_asked_by_the_older_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = ["nvmlDeviceGetCurrentClocksEventReasons"]
    install(monkeypatch, FakeNvml(gpus=[FakeGpu("aa", reasons=0x40)], lacks=lacks), "aa")

    (state,) = read_device_states([CUDA_0])

    assert state.throttle_reasons == ("hardware thermal slowdown",)


def test_there_are_no_states_on_a_cpu() -> None:
    assert read_device_states([torch.device("cpu")]) == ()


def test_there_are_no_states_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert read_device_states([CUDA_0]) == ()


def test_there_are_no_states_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeNvml(init_problem="Driver Not Loaded"), "aa")

    assert read_device_states([CUDA_0]) == ()


def test_the_driver_is_closed_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(gpus=[FakeGpu("aa")])
    install(monkeypatch, nvml)

    with pytest.raises(IndexError):
        read_device_states([CUDA_0])

    assert nvml.n_open == 0


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x2 | 0x100, ()),
        (0x1 | 0x4, ("power cap",)),
        (0x8 | 0x80, ("hardware slowdown", "power brake")),
        (0x20 | 0x10, ("sync boost", "software thermal slowdown")),
        (0x200 | 0x400, ("board limit", "reliability")),
        (0x800, ("reason 0x800",)),
    ],
)
def test_only_slowdowns_are_reasons_and_each_has_its_words(
    bits: int, words: tuple[str, ...]
) -> None:
    assert throttle_reasons(bits) == words


@given(bits=st.integers(min_value=0, max_value=2**32))
def test_every_slowdown_bit_gives_one_reason(bits: int) -> None:
    idle_or_chosen = 0x1 | 0x2 | 0x100

    assert len(set(throttle_reasons(bits))) == (bits & ~idle_or_chosen).bit_count()
