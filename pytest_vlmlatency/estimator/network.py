"""`LatencyEstimator`: the origin's network and calls, as one of the estimators.

With the mended recipe, the default, `fit` trains and calibrates it like any other. A network of the
origin's recipe, or one trained step by step, predicts as well, but knows no quantiles: nothing has
compared it with records that it had not seen. Owns no training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import Source, Table, table_of
from pytest_vlmlatency.estimator.inputs import INPUTS, are_scalars, columns_of, has_tensors
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.planning import budget_question
from pytest_vlmlatency.estimator.protocol import Prediction
from pytest_vlmlatency.estimator.recipes import PER_TOKEN, PREFILL, Predicted, Recipe
from pytest_vlmlatency.estimator.tensor_inputs import amounts_of
from pytest_vlmlatency.estimator.training import (
    PLANS,
    LatencyEstimatorTrainer,
    Progress,
    TrainingPlan,
    train,
)
from pytest_vlmlatency.estimator.weights import read_weights, write_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.inputs import Columns, Knob
    from pytest_vlmlatency.estimator.state import State

__all__ = ["LatencyEstimator", "LatencyEstimatorTrainer", "Recipe", "TrainingPlan"]

ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkModel:
    """A trained network, asked without gradients."""

    network: LatencyNetwork

    @property
    def inputs(self) -> tuple[str, ...]:
        """The origin's five."""
        return INPUTS

    def predict(self, columns: Columns) -> Prediction:
        """Return both times of the network's recipe, in ms."""
        rows = torch.from_numpy(np.stack([columns[name] for name in INPUTS], axis=1))
        rows = rows.to(self.network.input_mean)
        with torch.no_grad():
            parts = [self.network(*part.unbind(-1)) for part in rows.split(ROWS_AT_ONCE)]  # type: ignore[no-untyped-call]  # torch's own has no types
        return _predicted(
            self.network.recipe,
            *(
                torch.cat([part[name] for part in parts]).double().cpu().numpy()
                for name in (PREFILL, self.network.recipe.decode_key)
            ),
        )


class LatencyEstimator(LatencyNetwork, CalibratedEstimator[NetworkModel]):
    """Predicts prefill and decode with the origin's network; a torch module like any other."""

    kind: ClassVar[str] = "network"
    n_folds: ClassVar[int] = 3  # each is a training of seconds

    def __init__(
        self,
        hidden_dim: int = 256,
        num_layers: int = 2,
        *,
        recipe: str = "mended",
        plan: TrainingPlan | None = None,
        device: str = "cpu",
        on_epoch: Callable[[Progress], None] | None = None,
        knobs: Sequence[Knob | str] = (),
    ) -> None:
        if knobs:
            raise EstimatorProblem(
                f"the network has the origin's five inputs, {', '.join(INPUTS)}, and takes no "
                f"further knobs; the roofline estimator does"
            )
        LatencyNetwork.__init__(self, hidden_dim, num_layers, recipe=recipe)
        CalibratedEstimator.__init__(self)
        self.plan = plan or PLANS[self.recipe]
        self._device, self._on_epoch = device, on_epoch

    @property
    def inputs(self) -> tuple[str, ...]:
        """The origin's five."""
        return INPUTS

    def fit(self, records: Source | Table) -> Self:
        """Train on records; with the mended recipe, calibrate on what folds had not seen."""
        table = table_of(records)
        if self.recipe is Recipe.ORIGIN:
            self._take_over(self._train(table))
            return self
        CalibratedEstimator.fit(self, table)
        self._take_over(self.model)
        self._fitted = NetworkModel(network=self), self.state
        return self

    def predict_batch(self, columns: Mapping[str, object]) -> Prediction:
        """Return both times in ms, one row a request; tensors for tensors, with their gradient."""
        if self._fitted is not None:
            said = CalibratedEstimator.predict_batch(self, columns)
        elif has_tensors(columns):
            said = cast("Prediction", self._predict_tensors(NetworkModel(network=self), columns))
        else:
            said = NetworkModel(network=self).predict(columns_of(columns, INPUTS))
        return _predicted(self.recipe, *said.values())

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return the ms that a share `q` of measured values stays below; after `fit` alone."""
        return _predicted(
            self.recipe, *CalibratedEstimator.predict_quantile(self, columns, q).values()
        )

    def predict_from_config(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return both times in ms: floats for scalars, arrays for lists, tensors for tensors."""
        said: Mapping[str, object] = self.predict_batch(config)
        if not has_tensors(config) and are_scalars(config):
            said = {name: float(np.asarray(ms)[0]) for name, ms in said.items()}
        first, second = said.values()
        return Predicted(self.recipe, prefill_ms=first, decode_ms=second)

    def check_budget_feasibility(
        self,
        *asked: object,
        percentile: float | None = None,
        prefill_share: float | None = None,
        quantile: float | None = None,
        **named: object,
    ) -> bool | NDArray[np.bool_]:
        """Return whether a generation stays within `latency_budget` ms; for lists, an array.

        With the origin's recipe it is the origin's sum: prefill and decode / N for each token.
        """
        if self.recipe is Recipe.MENDED:
            return CalibratedEstimator.check_budget_feasibility(
                self,
                *asked,
                percentile=percentile,
                prefill_share=prefill_share,
                quantile=quantile,
                **named,
            )
        config, given = budget_question(asked, named)
        n_tokens = given.get("expected_output_tokens")
        if (percentile, prefill_share, quantile) != (None,) * 3 or n_tokens is None:
            raise EstimatorProblem(
                "a network of the origin's recipe checks a budget for expected_output_tokens, and "
                "knows no quantile, percentile or share; the mended recipe does"
            )
        said = self.predict_batch(config)
        total_ms = said[PREFILL] + np.asarray(n_tokens) * said[PER_TOKEN]
        inside = total_ms <= np.asarray(given["latency_budget"])
        return bool(inside[0]) if are_scalars(config) and inside.shape == (1,) else inside

    def _train(self, table: Table, like: NetworkModel | None = None) -> NetworkModel:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.plan.seed)
            network = LatencyNetwork(self.hidden_dim, self.num_layers, recipe=self.recipe)
        on_epoch = self._on_epoch if like is None else None
        train(network, table, self.plan, device=self._device, on_epoch=on_epoch)
        return NetworkModel(network=network)

    def _take_over(self, model: NetworkModel) -> None:
        self.to(model.network.input_mean.device)
        self.load_state_dict(model.network.state_dict())
        self.eval()

    def _predict_tensors(
        self, model: NetworkModel, asked: Mapping[str, object]
    ) -> dict[str, torch.Tensor]:
        """Return both times with their gradient, in the inputs' shape and dtype; moves to them."""
        amounts = amounts_of(asked, INPUTS, ())
        five = torch.broadcast_tensors(*(torch.as_tensor(amounts[name]) for name in INPUTS))  # type: ignore[no-untyped-call]  # torch's own has no types
        model.network.to(five[0].device)
        said = model.network(*five)
        return {name: ms.to(five[0].dtype).reshape(five[0].shape) for name, ms in said.items()}

    def _plain(self, model: NetworkModel, path: Path) -> Mapping[str, object]:
        return write_weights(model.network, path)

    @classmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> NetworkModel:
        return NetworkModel(network=read_weights(plain, path))

    @classmethod
    def from_plain(cls, state: State, model: Mapping[str, object], path: Path) -> Self:
        """Return the estimator of a file's content; see `load_estimator`."""
        read = cls._of_plain(model, path)
        estimator = cls(read.network.hidden_dim, read.network.num_layers, knobs=state.knobs)
        estimator._take_over(read)
        estimator._fitted = NetworkModel(network=estimator), state
        return estimator

    def _known(self) -> tuple[NetworkModel, State]:
        if self._fitted is None:
            raise EstimatorProblem(
                f"this network, of the {self.recipe} recipe, was not calibrated, so it has no "
                f"quantiles, ranges or file; call fit(records) with the mended recipe for those. "
                f"The weights alone: safetensors.torch.save_file(model.state_dict(), path)"
            )
        return self._fitted


def _predicted(recipe: Recipe, prefill_ms: object, decode_ms: object) -> Prediction:
    return cast("Prediction", Predicted(recipe, prefill_ms=prefill_ms, decode_ms=decode_ms))
