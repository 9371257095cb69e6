from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import LoadedModel, load_model
from tests.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small models on several threads spend their time waiting for each other."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def nano() -> LoadedModel:
    return load_model("dummy:molmoe-nano")


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    return photograph("chelsea", longest_side=200)
