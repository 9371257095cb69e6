from __future__ import annotations

import pytest
import torch

from pytest_vlmlatency.errors import NoAccelerator, UsageProblem
from pytest_vlmlatency.machine.turns import place_of
from pytest_vlmlatency.session.placement import resolve_device
from tests.builders import see_accelerator


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, None)
    monkeypatch.setattr(torch.version, "cuda", "12.8")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, "cuda")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.mark.usefixtures("no_accelerator")
def test_gpu_without_an_accelerator_says_what_torch_saw() -> None:
    with pytest.raises(NoAccelerator) as caught:
        resolve_device(None, is_gpu_asked=True)

    assert str(caught.value) == (
        f"--gpu: torch {torch.__version__} sees no accelerator (built for CUDA; visible: none); "
        f"install a torch built for yours, make its driver visible to this process, "
        f"or leave --gpu out"
    )


@pytest.mark.usefixtures("no_accelerator")
def test_a_named_accelerator_that_is_not_there_is_refused() -> None:
    with pytest.raises(NoAccelerator, match=r"--vlm-device xpu: torch .* has no usable xpu"):
        resolve_device("xpu", is_gpu_asked=False)


@pytest.mark.usefixtures("two_gpus")
def test_gpu_means_the_current_accelerator() -> None:
    assert resolve_device(None, is_gpu_asked=True) == "cuda"


@pytest.mark.usefixtures("two_gpus")
def test_a_device_with_its_number_agrees_with_gpu() -> None:
    assert resolve_device("cuda:1", is_gpu_asked=True) == "cuda:1"


@pytest.mark.usefixtures("two_gpus")
def test_a_number_beyond_the_devices_is_refused() -> None:
    with pytest.raises(NoAccelerator, match="--vlm-device cuda:2: torch sees 2 cuda device"):
        resolve_device("cuda:2", is_gpu_asked=False)


@pytest.mark.usefixtures("two_gpus")
def test_another_kind_of_accelerator_than_the_one_here_is_refused() -> None:
    with pytest.raises(NoAccelerator, match=r"has no usable mps .*visible: 2 cuda"):
        resolve_device("mps", is_gpu_asked=False)


@pytest.mark.usefixtures("two_gpus")
def test_gpu_and_the_cpu_contradict_each_other() -> None:
    with pytest.raises(UsageProblem, match="--gpu and --vlm-device cpu contradict each other"):
        resolve_device("cpu", is_gpu_asked=True)


def test_a_kind_of_device_that_torch_does_not_know_is_refused() -> None:
    with pytest.raises(UsageProblem, match="--vlm-device gpu: torch knows no such kind of device"):
        resolve_device("gpu", is_gpu_asked=False)


def test_the_cpu_is_always_there() -> None:
    assert resolve_device("cpu", is_gpu_asked=False) == "cpu"


def test_without_gpu_and_device_the_choice_is_left_open() -> None:
    assert resolve_device(None, is_gpu_asked=False) is None


def test_all_tensors_on_the_cpu_share_one_place() -> None:
    assert place_of(torch.device("cpu")) == "cpu"


def test_a_device_is_called_by_its_uuid_since_workers_number_it_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Properties:
        uuid = "5f1e-22"

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Properties())

    assert place_of(torch.device("cuda", 0)) == "cuda-5f1e-22"


def test_a_device_without_a_uuid_is_called_by_its_number() -> None:
    assert place_of(torch.device("mps", 0)) == "mps-0"
