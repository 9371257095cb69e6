from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.machine import turns
from pytest_vlmlatency.machine.turns import choose_device, count_nvidia_devices

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "count_nvidia_devices", lambda: 4)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "count_nvidia_devices", lambda: 0)


def chosen(environ: dict[str, str], *, named: str | None = None) -> dict[str, str]:
    """Return what the variables of a process become."""
    choose_device(environ, named=named)
    return environ


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(("worker", "device"), [("gw0", "0"), ("gw3", "3"), ("gw5", "1")])
def test_a_worker_sees_the_device_of_its_number_modulo_their_count(
    worker: str, device: str
) -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": worker})

    assert environ["CUDA_VISIBLE_DEVICES"] == device


@pytest.mark.usefixtures("four_gpus")
def test_a_mask_that_is_set_already_is_divided() -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": "gw2", "CUDA_VISIBLE_DEVICES": "5, GPU-8a"})

    assert environ["CUDA_VISIBLE_DEVICES"] == "5"


@pytest.mark.usefixtures("four_gpus")
def test_a_mask_that_hides_all_devices_stays() -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": "gw1", "CUDA_VISIBLE_DEVICES": ""})

    assert environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.usefixtures("no_gpu")
def test_a_level_zero_mask_is_divided() -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": "gw1", "ZE_AFFINITY_MASK": "0.0,0.1"})

    assert environ["ZE_AFFINITY_MASK"] == "0.1"


@pytest.mark.usefixtures("no_gpu")
def test_nothing_is_hidden_where_nothing_can_be_counted() -> None:
    assert chosen({"PYTEST_XDIST_WORKER": "gw1"}) == {"PYTEST_XDIST_WORKER": "gw1"}


@pytest.mark.usefixtures("four_gpus")
def test_nothing_is_hidden_outside_a_worker() -> None:
    assert chosen({}) == {}


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize("named", ["cpu", "cuda:1"])
def test_a_device_that_was_named_stays_visible_to_every_worker(named: str) -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": "gw0"}, named=named)

    assert "CUDA_VISIBLE_DEVICES" not in environ


@pytest.mark.usefixtures("four_gpus")
def test_a_kind_of_device_without_a_number_is_divided() -> None:
    environ = chosen({"PYTEST_XDIST_WORKER": "gw1"}, named="cuda")

    assert environ["CUDA_VISIBLE_DEVICES"] == "1"


class _NoDriver(Exception):
    """What NVML raises without a driver."""


def _fail() -> None:
    raise _NoDriver


def test_devices_are_counted_by_the_driver_library(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        NVMLError=_NoDriver,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 8,
        nvmlShutdown=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    assert count_nvidia_devices() == 8


def test_devices_are_counted_by_their_files_where_the_library_finds_no_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml = SimpleNamespace(NVMLError=_NoDriver, nvmlInit=_fail)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()

    assert count_nvidia_devices(tmp_path) == 2


def test_devices_are_counted_by_their_files_without_the_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (tmp_path / "0000:01:00.0").mkdir()

    assert count_nvidia_devices(tmp_path) == 1


def test_without_a_driver_there_are_no_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert count_nvidia_devices(tmp_path / "nvidia") == 0
