"""What the benchmarks share: which shapes to measure, and on what device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_vlmlatency.models.load import LoadedModel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-configurations",
        action="store_true",
        help="Measure all 27 configurations of MolmoE instead of five.",
    )
    parser.addoption(
        "--samples",
        metavar="FILE",
        help="Profile the samples of FILE, JSON Lines of image path and prompt, instead of three "
        "photographs.",
    )


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest, vlm_device: str) -> LoadedModel:
    """Load the shape that the test names, with random weights: latency needs no trained ones."""
    from pytest_vlmlatency.models.load import load_model  # noqa: PLC0415 - imports transformers

    is_full = request.node.get_closest_marker("gpu") is not None
    if is_full and vlm_device == "cpu":
        pytest.skip("a full shape wants an accelerator: add --gpu")
    return load_model(f"dummy:{request.param}", device=vlm_device)
