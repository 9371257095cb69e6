"""Budgets of a network that says decode / N: N tokens take prefill and N times that.

Budgets and search know steps, of which N tokens take N - 1: so N such tokens are asked about as
N + 1, of which each further one takes a step. Owns what a time of 0 ms means: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from pytest_vlmlatency.estimator.budgets import Limits, Predicts, output_length
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.recipes import PER_TOKEN
from pytest_vlmlatency.estimator.tensor_inputs import checked
from pytest_vlmlatency.estimator.tensors import lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.state import State

DEAD = "the origin's network predicts 0 ms: a head that ends in a ReLU says nothing there"
ALIVE = (
    "times above 0 ms: train it from another seed, as TrainingPlan(seed=...) or --seed, or with "
    "the mended recipe"
)


@dataclass(frozen=True, slots=True)
class TokensAsSteps:
    """A network of the origin's recipe, its decode / N given for the time of a step."""

    network: Predicts

    @property
    def state(self) -> State:
        """Return what the network was fitted on."""
        return self.network.state

    def predict_batch(self, columns: Mapping[str, object]) -> Prediction:
        """Return both times in ms."""
        return _as_step(self.network.predict_batch(columns))

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return both times in ms that a share `q` of measured ones stays below."""
        return _as_step(self.network.predict_quantile(columns, q))


def in_steps(network: Predicts, limits: Limits) -> tuple[Predicts, Limits]:
    """Return the question of N tokens as one of N steps; the lengths are checked as tokens."""
    is_tensor = isinstance(limits.expected_output_tokens, torch.Tensor)
    n_tokens = lengths(network, limits) if is_tensor else output_length(network, limits)
    return TokensAsSteps(network), replace(
        limits, expected_output_tokens=n_tokens + 1, percentile=None
    )


def without_first(n_steps: int | NDArray[np.int64]) -> int | NDArray[np.int64]:
    """Return how many tokens take a number of steps that was counted with one for prefill."""
    if isinstance(n_steps, int):
        return max(n_steps - 1, 0)
    return (n_steps - 1).clip(0)  # of an array and of a tensor


def alive(said: Prediction) -> None:
    """Refuse a prediction of 0 ms: no quantile and no budget follows from it."""
    for ms in cast("Mapping[str, object]", said).values():
        values = ms if isinstance(ms, torch.Tensor) else torch.from_numpy(np.asarray(ms))
        checked(values, is_right=values > 0, seen=DEAD, expected=ALIVE)


def _as_step(said: Prediction) -> Prediction:
    alive(said)
    return cast("Prediction", {PREFILL: said[PREFILL], DECODE_STEP: said[PER_TOKEN]})
