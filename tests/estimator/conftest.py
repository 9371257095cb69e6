"""Estimators that many tests ask, fitted once."""

from collections.abc import Iterator

import pytest

from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import simulated
from tests.threads import torch_threads


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: the networks are small, and a time's last bit depends on the number."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def fitted() -> RooflineEstimator:
    """An estimator of a machine without a cliff; tests do not change it."""
    return RooflineEstimator().fit(simulated(1500, seed=1))


@pytest.fixture
def updated() -> RooflineEstimator:
    """One that a test may change."""
    return RooflineEstimator().fit(simulated(400, seed=1))
