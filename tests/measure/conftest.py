import pytest

from tests.builders import FakeClock
from tests.zoo import Specimen, build


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def llava() -> Specimen:
    return build("llava")


@pytest.fixture
def mllama() -> Specimen:
    return build("mllama")
