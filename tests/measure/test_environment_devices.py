from __future__ import annotations

import sys

import pytest
import torch

from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import Environment
from tests.measure.fake_nvml import FakeGpu, FakeNvml, visible_to_torch

CPU = torch.device("cpu")
CUDA_0 = torch.device("cuda:0")
MPS = torch.device("mps")
XPU = torch.device("xpu")


def a_gpu(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", visible_to_torch("aa-11"))
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")


def test_a_gpu_is_described_by_torch_and_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(gpus=[FakeGpu("aa-11")])
    a_gpu(monkeypatch, nvml)

    found = read_environment([CPU, CUDA_0])

    assert found.devices == (
        {
            "device": "cuda:0",
            "name": "NVIDIA H200",
            "uuid": "aa-11",
            "memory_bytes": 150_000_000_000,
            "capability": "9.0",
            "driver": "580.65.06",
            "power_limit_w": 700.0,
        },
    )
    assert found.settings["allocator_backend"] == "native"
    assert nvml.n_open == 0


def test_an_older_library_answers_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu(monkeypatch, FakeNvml(gpus=[FakeGpu("aa-11")], driver=b"470.57"))

    assert read_environment([CUDA_0]).devices[0]["driver"] == "470.57"


def test_a_driver_that_does_not_name_its_version_leaves_it_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_gpu(monkeypatch, FakeNvml(gpus=[FakeGpu("aa-11")], lacks=["nvmlSystemGetDriverVersion"]))

    assert read_environment([CUDA_0]).devices[0]["driver"] is None


@pytest.mark.parametrize(
    ("nvml", "reason"),
    [
        (None, "not available: nvidia-ml-py is not installed"),
        (FakeNvml(init_problem="Driver Not Loaded"), "not available: Driver Not Loaded"),
    ],
)
def test_without_a_driver_to_ask_the_reason_is_recorded(
    monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml | None, reason: str
) -> None:
    a_gpu(monkeypatch, nvml)

    (device,) = read_environment([CUDA_0]).devices

    assert (device["driver"], device["power_limit_w"]) == (reason, None)
    assert device["uuid"] == "aa-11"


def test_a_device_that_the_driver_does_not_know_has_no_power_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a_gpu(monkeypatch, FakeNvml(gpus=[FakeGpu("bb-22")]))

    (device,) = read_environment([CUDA_0]).devices

    assert (device["driver"], device["power_limit_w"]) == ("580.65.06", None)


def test_other_accelerators_are_named_where_torch_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _device: "Arc B580")

    assert read_environment([XPU, MPS]).devices == (
        {"device": "xpu", "name": "Arc B580"},
        {"device": "mps", "name": None},
    )


def test_an_environment_survives_a_trip_through_json(monkeypatch: pytest.MonkeyPatch) -> None:
    a_gpu(monkeypatch, FakeNvml(gpus=[FakeGpu("aa-11")]))
    found = read_environment([CPU, CUDA_0])

    assert from_plain(Environment, to_plain(found)) == found
