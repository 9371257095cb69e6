"""What tests/ and benchmarks/ share. The plugin itself is loaded by its entry point."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needing = [item for item in items if item.get_closest_marker("gpu")]
    if needing and not _has_accelerator():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="torch sees no accelerator"))


def _has_accelerator() -> bool:
    import torch  # noqa: PLC0415 - only where a test needs a device

    return torch.accelerator.is_available()
