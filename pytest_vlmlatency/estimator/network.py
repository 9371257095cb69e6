"""`LatencyEstimator`: the network of the legacy recipe, as one of the estimators.

`fit` trains and calibrates it like any other, by either recipe, each with its own decode time. One
that was trained step by step predicts, plans and is saved as well, but has no quantiles: nothing
compared it with records held out.

Budgets and search count decode steps, of which N tokens take N - 1. The legacy recipe predicts
decode / N: N such tokens are passed on as N + 1, each further one a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import Limits, Predicts, output_length
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import Source, Table, table_of
from pytest_vlmlatency.estimator.files import remove_former_weights, write_file
from pytest_vlmlatency.estimator.inputs import INPUTS, are_scalars, columns_of, has_tensors
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.recipes import PER_TOKEN, Predicted, Recipe
from pytest_vlmlatency.estimator.search import Planning
from pytest_vlmlatency.estimator.tensors import amounts_of, checked, lengths
from pytest_vlmlatency.estimator.training import (
    PLANS,
    LatencyEstimatorTrainer,
    Progress,
    TrainingPlan,
    begun,
    train,
)
from pytest_vlmlatency.estimator.weights import read_weights, write_weights
from pytest_vlmlatency.whole_files import locked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.budgets import Limits, Predicts
    from pytest_vlmlatency.estimator.inputs import Columns, Knob
    from pytest_vlmlatency.estimator.search import Config
    from pytest_vlmlatency.estimator.state import State


DEAD = "the origin's network predicts 0 ms: a head that ends in a ReLU says nothing there"
ALIVE = (
    "times above 0 ms: train it from another seed, as TrainingPlan(seed=...) or --seed, or with "
    "the mended recipe"
)


@dataclass(frozen=True, slots=True)
class TokensAsSteps:
    """A network of the legacy recipe, its decode / N given for the time of a step."""

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


__all__ = ["LatencyEstimator", "LatencyEstimatorTrainer", "Recipe", "TrainingPlan"]

ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkModel:
    """A trained network, asked without gradients."""

    network: LatencyNetwork
    is_held_out: bool = False  # asked what it has not seen, where 0 ms would be left out unseen

    @property
    def inputs(self) -> tuple[str, ...]:
        """The five legacy inputs."""
        return INPUTS

    def predict(self, columns: Columns) -> Prediction:
        """Return both times of the network's recipe, in ms."""
        rows = torch.from_numpy(np.stack([columns[name] for name in INPUTS], axis=1))
        rows = rows.to(self.network.input_mean)
        with torch.no_grad():
            parts = [self.network(*part.unbind(-1)) for part in rows.split(ROWS_AT_ONCE)]  # type: ignore[no-untyped-call]  # torch's own has no types
        said = _predicted(
            self.network.recipe,
            *(
                torch.cat([part[name] for part in parts]).double().cpu().numpy()
                for name in self.network.recipe.targets
            ),
        )
        if self.is_held_out:
            alive(said)
        return said


class LatencyEstimator(LatencyNetwork, CalibratedEstimator[NetworkModel]):
    """Predicts prefill and decode with the legacy network; a torch module like any other."""

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
        """The five legacy inputs."""
        return INPUTS

    def fit(self, records: Source | Table) -> Self:
        """Train on records, and calibrate on what folds had not seen.

        A network of the legacy recipe begins with the first seed, from the plan's on, that leaves
        both of its heads alive; one that ends with a time of 0 ms is refused.
        """
        CalibratedEstimator.fit(self, table_of(records))
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

    @property
    def machine(self) -> str | None:
        """The fingerprint of the machine of the records, None if there are none that say it."""
        return None if self._fitted is None else self.state.machine

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return the ms that a share `q` of measured values stays below; after `fit` alone."""
        said = CalibratedEstimator.predict_quantile(self, columns, q)
        if self.recipe is Recipe.ORIGIN:
            alive(said)
        return _predicted(self.recipe, *said.values())

    def predict_from_config(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return both times in ms: floats for scalars, arrays for lists, tensors for tensors."""
        said: Mapping[str, object] = self.predict_batch(config)
        if not has_tensors(config) and are_scalars(config):
            said = {name: float(np.asarray(ms)[0]) for name, ms in said.items()}
        first, second = said.values()
        return Predicted(self.recipe, prefill_ms=first, decode_ms=second)

    def max_output_tokens(
        self, config: Config, budget_ms: object, *, quantile: float | None = None
    ) -> int | NDArray[np.int64]:
        """Return the longest output within a budget; 0 if not even the first token fits.

        In the legacy recipe, each token takes decode / N, the first one too.
        """
        if self.recipe is Recipe.MENDED:
            return CalibratedEstimator.max_output_tokens(self, config, budget_ms, quantile=quantile)
        of_steps = TokensAsSteps(self)
        return without_first(
            Planning.max_output_tokens(of_steps, config, budget_ms, quantile=quantile)
        )

    def forget_calibration(self) -> None:
        """Forget quantiles, ranges and corrections, as the weights change after `fit`."""
        self._fitted, self._outliers = None, ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load_estimator` reads, and the weights beside it as safetensors.

        It names the recipe and whether the network was calibrated. An estimator that the file held
        before stays whole until the file is replaced; then its weights are removed, unless another
        estimator's file in the folder names them.
        """
        state = None if self._fitted is None else self.state
        path = Path(path)
        with locked(path.parent):
            model = write_weights(self, path)
            write_file(path, kind=self.kind, state=state, model=model)
            remove_former_weights(path)

    def _in_steps(self, limits: Limits) -> tuple[Predicts, Limits]:
        return (self, limits) if self.recipe is Recipe.MENDED else in_steps(self, limits)

    def _train(self, table: Table, like: NetworkModel | None = None) -> NetworkModel:
        network = begun(table, self.plan, (self.hidden_dim, self.num_layers), self.recipe)
        on_epoch = self._on_epoch if like is None else None
        train(network, table, self.plan, device=self._device, on_epoch=on_epoch)
        trained = NetworkModel(network=network, is_held_out=like is not None)
        if self.recipe is Recipe.ORIGIN:
            alive(trained.predict({name: table.columns[name] for name in INPUTS}))
        return trained

    def _take_over(self, model: NetworkModel) -> None:
        self.to(model.network.input_mean)
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
    def from_plain(cls, state: State | None, model: Mapping[str, object], path: Path) -> Self:
        """Return the estimator of a file's content; see `load_estimator`."""
        read = cls._of_plain(model, path)
        network = read.network
        estimator = cls(network.hidden_dim, network.num_layers, recipe=network.recipe)
        estimator._take_over(read)
        if state is None:
            return estimator
        if (state.inputs, set(state.spreads)) != (INPUTS, set(network.recipe.targets)):
            raise EstimatorProblem(
                f"its state is of {', '.join((*state.inputs, *state.spreads))}; expected the five "
                f"inputs and {' and '.join(network.recipe.targets)}, of the {network.recipe} recipe"
            )
        estimator._fitted = NetworkModel(network=estimator), state
        return estimator

    def _known(self) -> tuple[NetworkModel, State]:
        if self._fitted is None:
            raise EstimatorProblem(
                f"this network, of the {self.recipe} recipe, was not calibrated since its weights "
                f"last changed, so it knows no quantiles, ranges or lengths of outputs, and cannot "
                f"be updated: call fit(records), which trains anew and calibrates. It predicts, "
                f"checks budgets for expected_output_tokens and is saved without"
            )
        return self._fitted


def _predicted(recipe: Recipe, prefill_ms: object, decode_ms: object) -> Prediction:
    return cast("Prediction", Predicted(recipe, prefill_ms=prefill_ms, decode_ms=decode_ms))
