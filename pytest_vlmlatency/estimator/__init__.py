"""Predicts latency from exported records, without running the model.

Apart from the path of a number: nothing that measures or judges knows this room.
"""

from pytest_vlmlatency.estimator.files import load_estimator
from pytest_vlmlatency.estimator.inputs import Knob
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.search import config_grid

__all__ = ["Knob", "RooflineEstimator", "config_grid", "load_estimator"]
