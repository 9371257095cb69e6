"""The model that `--vlm-model` names: a hub id, a folder, or `dummy:NAME`.

pytest benchmarks/test_own_model.py --gpu --vlm-model HuggingFaceTB/SmolVLM-256M-Instruct
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.models.images import photograph

if TYPE_CHECKING:
    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.models.load import LoadedModel


@pytest.mark.parametrize("name", ["astronaut", "page"])
@pytest.mark.parametrize("max_new_tokens", [1, 32])
def test_own_model(
    vlm_latency: VlmLatency, vlm_model: LoadedModel, name: str, max_new_tokens: int
) -> None:
    inputs = vlm_model.prepare(photograph(name), "Describe the picture in one sentence.")

    vlm_latency(vlm_model.model.generate, **inputs, max_new_tokens=max_new_tokens)
