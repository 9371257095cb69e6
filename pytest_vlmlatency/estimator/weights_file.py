"""What an estimator's JSON file says of a network whose weights lie beside it. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """The network's recipe and sizes, and the file of its weights with its digest."""

    recipe: Recipe
    hidden_dim: int
    num_layers: int
    weights: str
    sha256: str

    def __post_init__(self) -> None:
        if self.hidden_dim < 1 or self.num_layers < 1:
            raise EstimatorProblem(
                f"a network has {self.num_layers} layers of {self.hidden_dim}; expected 1 or more"
            )

    @property
    def n_weights(self) -> int:
        """At least so many numbers: those between the layers."""
        return self.hidden_dim * self.hidden_dim * (self.num_layers - 1) + self.hidden_dim
