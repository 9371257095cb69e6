"""Predicts latency from exported records, without running the model.

Apart from the path of a number: nothing that measures or judges knows this room. The names below
are loaded on first use: torch is imported when the network is asked for, and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.files import load_estimator
    from pytest_vlmlatency.estimator.inputs import Knob
    from pytest_vlmlatency.estimator.lookup import LookUpEstimator
    from pytest_vlmlatency.estimator.network import LatencyEstimator
    from pytest_vlmlatency.estimator.roofline import RooflineEstimator, SeparateEstimator
    from pytest_vlmlatency.estimator.search import config_grid
    from pytest_vlmlatency.estimator.training import LatencyEstimatorTrainer
    from pytest_vlmlatency.estimator.trees import BoostedTreesEstimator

__all__ = [
    "BoostedTreesEstimator",
    "Knob",
    "LatencyEstimator",
    "LatencyEstimatorTrainer",
    "LookUpEstimator",
    "RooflineEstimator",
    "SeparateEstimator",
    "config_grid",
    "load_estimator",
]

_HOMES = {
    "BoostedTreesEstimator": "trees",
    "Knob": "inputs",
    "LatencyEstimator": "network",
    "LatencyEstimatorTrainer": "training",
    "LookUpEstimator": "lookup",
    "RooflineEstimator": "roofline",
    "SeparateEstimator": "roofline",
    "config_grid": "search",
    "load_estimator": "files",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - torch only where it is asked for

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
