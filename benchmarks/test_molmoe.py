"""A MolmoE-shaped model, knob by knob: image tier, experts per token, active blocks.

The configurations are measured in turn, a round of each, because a machine drifts: in a sequence
of sweeps the last ones would look slower, or faster, for what happened meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.knobs import molmoe_grid, small_grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.models.load import LoadedModel

SHAPES = ["molmoe-nano", pytest.param("molmoe-1b-7b", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("loaded", SHAPES, indirect=True)
def test_knobs(vlm_latency: VlmLatency, loaded: LoadedModel, pytestconfig: pytest.Config) -> None:
    image = photograph("coffee", longest_side=512)
    configs = molmoe_grid() if pytestconfig.getoption("all_configurations") else small_grid()

    def inputs_of_the_tier() -> tuple[tuple[()], Mapping[str, object]]:
        """Prepare the image anew for each configuration: its tier decides the number of crops."""
        inputs = loaded.prepare(image, "What is in this picture?")
        return (), {**inputs, "max_new_tokens": 16}

    vlm_latency.interleaved(loaded.model.generate, configs, setup=inputs_of_the_tier)
