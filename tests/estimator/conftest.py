"""Estimators that many tests ask, fitted once."""

import pytest

from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import simulated


@pytest.fixture(scope="session")
def fitted() -> RooflineEstimator:
    """An estimator of a machine without a cliff; tests do not change it."""
    return RooflineEstimator().fit(simulated(1500, seed=1))


@pytest.fixture
def updated() -> RooflineEstimator:
    """One that a test may change."""
    return RooflineEstimator().fit(simulated(400, seed=1))
