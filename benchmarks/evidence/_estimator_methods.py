"""The estimators that are compared, each trained in the same way: from a table to a prediction."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_vlmlatency.estimator.inputs import INPUTS
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.lookup import LookUpEstimator
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.recipes import Recipe
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.training import PLANS, train
from pytest_vlmlatency.estimator.trees import BoostedTreesEstimator

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.protocol import Prediction

    Predict = Callable[[Table], Prediction]

DEFAULT = "roofline (default)"
SEED = 3407
MOST_OF_ORIGIN = 6_000
"""Records that the origin's recipe is trained on: its 50 epochs of all would take minutes each."""


def roofline(table: Table) -> Predict:
    """Train the default, with all that it does to know its quantiles."""
    estimator = RooflineEstimator().fit(table)
    return lambda rows: estimator.predict_batch(
        {name: rows.columns[name] for name in estimator.inputs}
    )


def boosted_trees(table: Table) -> Predict:
    """Train boosted trees, without their quantiles."""
    model = BoostedTreesEstimator()._train(table)
    return lambda rows: model.predict(rows.columns)


def look_up(table: Table) -> Predict:
    """Fill a look-up table."""
    model = LookUpEstimator()._train(table)
    return lambda rows: model.predict(rows.columns)


def origins_network(table: Table) -> Predict:
    """Train by the origin's recipe, from the first seed that leaves it a chance."""
    if len(table) > MOST_OF_ORIGIN:
        chosen = np.random.default_rng(SEED).choice(len(table), MOST_OF_ORIGIN, replace=False)
        table = table.rows(np.sort(chosen))
    seed = next(seed for seed in itertools.count(SEED) if not is_dead(seed, table))
    return _network(table, Recipe.ORIGIN, seed)


def log_network(table: Table) -> Predict:
    """Train by the mended recipe."""
    return _network(table, Recipe.MENDED, SEED)


def is_dead(seed: int, table: Table) -> bool:
    """Whether a head of the origin's network is 0 for every record at the start.

    Its ReLU then has no gradient, and it stays 0 however long it is trained.
    """
    torch.manual_seed(seed)
    said = _predict(LatencyNetwork(recipe=Recipe.ORIGIN), table)
    return any(not ms.any() for ms in said.values())


METHODS: dict[str, Callable[[Table], Predict]] = {
    DEFAULT: roofline,
    "network, origin's recipe": origins_network,
    "network, log targets": log_network,
    "boosted trees": boosted_trees,
    "look-up table": look_up,
}


def errors_of(method: str, predicted: Prediction, table: Table) -> tuple[float, float]:
    """Return the mean relative errors of prefill and of decode.

    The origin's recipe is compared with decode / N, which it was trained on, all others with
    decode / (N - 1).
    """
    is_origin = METHODS[method] is origins_network
    decode_ms = table.decode_ms / table.output_tokens if is_origin else table.decode_per_step_ms
    return (
        float(np.mean(np.abs(predicted[PREFILL] / table.prefill_ms - 1))),
        float(np.nanmean(np.abs(predicted[DECODE_STEP] / decode_ms - 1))),
    )


def _network(table: Table, recipe: Recipe, seed: int) -> Predict:
    torch.manual_seed(seed)
    network = LatencyNetwork(recipe=recipe)
    train(network, table, PLANS[recipe])
    return lambda rows: _predict(network, rows)


def _predict(network: LatencyNetwork, rows: Table) -> Prediction:
    """Return both times, the origin's decode / N under the name of a step: see `errors_of`."""
    five = [torch.tensor(rows.columns[name], dtype=torch.float32) for name in INPUTS]
    with torch.no_grad():
        prefill, decode = (ms.double().numpy() for ms in network(*five).values())
    return {PREFILL: prefill, DECODE_STEP: decode}
