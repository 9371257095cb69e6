from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import LoadedModel, load_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small models on several threads spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def nano() -> LoadedModel:
    return load_model("dummy:molmoe-nano")


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    return photograph("chelsea", longest_side=200)
