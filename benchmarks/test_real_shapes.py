"""Photographs and a scanned page through the wiring of published models.

Small variants run anywhere; the shapes at full size want `--gpu`. To measure a model of your own,
see test_own_model.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import pytest_vlmlatency
from pytest_vlmlatency.models.images import photograph

if TYPE_CHECKING:
    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.models.load import LoadedModel

SMALL = ("smolvlm-tiny", "qwen2-vl-tiny", "llava-tiny")
FULL = ("smolvlm-256m", "qwen2-vl-2b", "llava-1.5-7b", "molmoe-1b-7b")
SHAPES = [*SMALL, *(pytest.param(name, marks=pytest.mark.gpu) for name in FULL)]


@pytest.mark.parametrize("loaded", SHAPES, indirect=True)
@pytest.mark.parametrize("longest_side", [256, 512])
def test_caption(vlm_latency: VlmLatency, loaded: LoadedModel, longest_side: int) -> None:
    inputs = loaded.prepare(
        photograph("astronaut", longest_side=longest_side), "What is in this picture?"
    )

    vlm_latency(loaded.model.generate, **inputs, max_new_tokens=16)

    assert vlm_latency.case.workload is None or vlm_latency.case.workload.n_output_tokens == 16


@pytest.mark.parametrize("loaded", SHAPES, indirect=True)
def test_page(vlm_latency: VlmLatency, loaded: LoadedModel) -> None:
    """A chat function around generate(): what it does itself is outside, and has its own span."""
    page = photograph("page", longest_side=384)

    def read_page() -> object:
        with pytest_vlmlatency.span("preprocess"):
            inputs = loaded.prepare(page, "Read the text on this page.")
        return loaded.model.generate(**inputs, max_new_tokens=16)

    vlm_latency.pedantic(read_page, model=loaded.model)


@pytest.mark.parametrize("loaded", SHAPES, indirect=True)
def test_text_only(vlm_latency: VlmLatency, loaded: LoadedModel) -> None:
    inputs = loaded.prepare(None, "What is the capital of France?")

    vlm_latency(loaded.model.generate, **inputs, max_new_tokens=16)
