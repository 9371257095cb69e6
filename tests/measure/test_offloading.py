"""Models that accelerate dispatches: its hooks move weights in and out around each forward."""

from dataclasses import replace
from pathlib import Path

import accelerate
import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from pytest_vlmlatency.calls.clock import model_devices
from tests.measure.delays import check_delays, measure_delayed
from tests.zoo import Specimen, build
from tests.zoo.once import encoding_once

# Earlier transformers say so of weights that wait elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore:You are calling .generate:UserWarning")

FAMILIES = encoding_once("llava", "qwen2_vl", "mllama", "florence2", "git", "blip-2")
OFFLOADED = encoding_once("llava", "qwen2_vl", "florence2", "git")
"""The others read weights past their module's call, when accelerate has put them away."""


@pytest.mark.parametrize("name", FAMILIES)
def test_hooks_of_a_dispatched_model_leave_each_delay_in_its_phase(name: str) -> None:
    specimen = build(name)
    before = specimen.generate(**specimen.inputs)
    accelerate.dispatch_model(specimen.model, {"": "cpu"}, force_hooks=True)

    check_delays(measure_delayed(specimen, specimen.generate), specimen)
    assert hasattr(specimen.model, "_hf_hook")
    assert torch.equal(specimen.generate(**specimen.inputs), before)


@pytest.mark.parametrize("name", OFFLOADED)
def test_weights_that_wait_in_memory_are_measured(name: str) -> None:
    specimen = build(name)
    before = specimen.generate(**specimen.inputs)
    accelerate.cpu_offload(specimen.model, execution_device="cpu")
    assert {parameter.device.type for parameter in specimen.model.parameters()} == {"meta"}

    case = measure_delayed(specimen, specimen.generate)

    check_delays(case, specimen)
    assert case.device == "cpu"
    assert torch.equal(specimen.generate(**specimen.inputs), before)


@pytest.mark.parametrize("name", OFFLOADED)
def test_weights_that_wait_on_disk_are_measured(name: str, tmp_path: Path) -> None:
    specimen = build(name)
    accelerate.disk_offload(specimen.model, str(tmp_path), execution_device="cpu")

    check_delays(measure_delayed(specimen, specimen.generate), specimen)


@pytest.mark.parametrize("name", ["mllama", "blip-2"])
def test_an_error_of_an_offloaded_model_is_its_own(name: str) -> None:
    specimen = build(name)
    accelerate.cpu_offload(specimen.model, execution_device="cpu")

    with pytest.raises(NotImplementedError, match="meta tensor"):
        measure_delayed(specimen, specimen.generate)


def test_offloaded_weights_are_timed_where_they_compute(llava: Specimen) -> None:
    """All of them wait on the meta device; a host's clock would read the time of launching."""
    text = llava.model.get_submodule("model.language_model").to("meta")
    vars(text)["_hf_hook"] = accelerate.hooks.SequentialHook(
        accelerate.hooks.ModelHook(), accelerate.hooks.AlignDevicesHook("cuda:1")
    )
    accelerate.cpu_offload(llava.model.get_submodule(llava.vision_path), execution_device="cpu")

    assert model_devices(text) == (torch.device("cuda:1"),)
    assert model_devices(llava.model) == (torch.device("cpu"), torch.device("cuda:1"))


def test_a_hook_over_weights_in_their_place_adds_no_device(llava: Specimen) -> None:
    vars(llava.model)["_hf_hook"] = accelerate.hooks.AlignDevicesHook("cuda:1")

    assert model_devices(llava.model) == (torch.device("cpu"),)


@pytest.mark.parametrize("where", ["cpu", "auto"])
def test_a_model_loaded_onto_a_device_map_is_measured(
    where: str, llava: Specimen, tmp_path: Path
) -> None:
    llava.model.save_pretrained(tmp_path)  # type: ignore[operator]  # a method
    model: nn.Module = AutoModelForImageTextToText.from_pretrained(tmp_path, device_map=where)
    loaded = replace(llava, model=model)

    check_delays(measure_delayed(loaded, loaded.generate), loaded)
