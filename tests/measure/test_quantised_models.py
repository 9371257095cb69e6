"""Models whose linear layers were replaced by ones that compute in eight bits."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.measure.delays import check_delays, measure_delayed
from tests.zoo import Specimen, build
from tests.zoo.once import encoding_once

FAMILIES = encoding_once("llava", "qwen2_vl", "florence2", "git")


class EightBits(nn.Module):
    """A linear layer with its weight as bytes, and a scale for each row."""

    weight: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(states, self.weight * self.scale, self.bias)


def in_eight_bits(specimen: Specimen) -> Specimen:
    """Return the specimen with each linear layer of the decoder and of the tower replaced."""
    model = copy.deepcopy(specimen.model)
    for root in (specimen.block_path, specimen.vision_path):
        part = model.get_submodule(root)
        linears = [path for path, module in part.named_modules() if type(module) is nn.Linear]
        for path in linears:
            part.set_submodule(path, EightBits(part.get_submodule(path)))  # type: ignore[arg-type]  # linear
    return replace(specimen, model=model)


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_of_the_users_own_leave_each_delay_in_its_phase(name: str) -> None:
    specimen = in_eight_bits(build(name))
    before = specimen.generate(**specimen.inputs)

    check_delays(measure_delayed(specimen, specimen.generate), specimen)
    assert torch.equal(specimen.generate(**specimen.inputs), before)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*quantiz")
@pytest.mark.parametrize("name", FAMILIES)
def test_torchs_dynamic_quantisation_leaves_each_delay_in_its_phase(name: str) -> None:
    specimen = build(name)
    quantised = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]  # torch's
        specimen.model, {nn.Linear}, dtype=torch.qint8
    )

    case = measure_delayed(replace(specimen, model=quantised), quantised.generate)

    check_delays(case, specimen)
