"""What the tests of the zoo share: each specimen, built once, on one thread."""

from collections.abc import Iterator

import pytest

from tests.threads import torch_threads
from tests.zoo import Specimen, available, build


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are several times slower when threads wait for one another."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session", params=available())
def specimen(request: pytest.FixtureRequest) -> Specimen:
    return build(request.param)
