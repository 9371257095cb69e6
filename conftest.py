"""What tests/ and benchmarks/ share. The plugin itself is loaded by its entry point."""

from __future__ import annotations

import sys

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """Let each test find phases anew, unless it measures several cases itself."""
    discovery = sys.modules.get("pytest_vlmlatency.discovery.cache")
    if discovery is not None:
        discovery.MEMORY.clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not _has_accelerator():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="torch sees no accelerator"))


def _has_accelerator() -> bool:
    import torch  # noqa: PLC0415 - only where a test needs a device

    return torch.accelerator.is_available()
