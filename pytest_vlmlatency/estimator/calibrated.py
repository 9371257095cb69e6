"""What all estimators share: fitting with calibration, quantiles, online updates, files.

A variant says how it trains and what a fitted model predicts; nothing here knows what that is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Self, cast

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibration import (
    AnyModel,
    Outlier,
    check_share,
    outliers,
    ratios_beyond,
    ratios_of,
    spreads,
    unseen_predictions,
)
from pytest_vlmlatency.estimator.columns import Record, Source, Table, check_alike, table_of
from pytest_vlmlatency.estimator.files import remove_former_weights, weights_beside, write_file
from pytest_vlmlatency.estimator.inputs import (
    Columns,
    Knob,
    are_scalars,
    columns_of,
    has_tensors,
    shape_of,
    values_of,
)
from pytest_vlmlatency.estimator.protocol import Prediction
from pytest_vlmlatency.estimator.search import Planning
from pytest_vlmlatency.estimator.state import State, state_of, warn_of_another
from pytest_vlmlatency.whole_files import locked

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray


class CalibratedEstimator(Planning, ABC, Generic[AnyModel]):
    """An estimator of one kind of model. `fit` before anything else; state changes by `update`."""

    kind: ClassVar[str]
    n_folds: ClassVar[int] = 5

    def __init__(self, *, knobs: Sequence[Knob | str] = ()) -> None:
        self._knobs = tuple(Knob(knob) if isinstance(knob, str) else knob for knob in knobs)
        self._fitted: tuple[AnyModel, State] | None = None
        self._outliers: tuple[Outlier, ...] = ()

    @abstractmethod
    def _train(self, table: Table, like: AnyModel | None = None) -> AnyModel:
        """Return a model of the records; one `like` another takes over what that one chose."""

    @abstractmethod
    def _plain(self, model: AnyModel, path: Path) -> Mapping[str, object]:
        """Return the model as JSON values; large weights go to a file beside `path`."""

    @classmethod
    @abstractmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> AnyModel:
        """Return the model of JSON values, each of them checked."""

    def _predict_one(
        self, model: AnyModel, values: Mapping[str, float | str]
    ) -> Mapping[str, float]:
        """Return both targets of one request; a variant may have a quicker way."""
        asked = self._asked(values)
        return {target: float(ms[0]) for target, ms in model.predict(asked).items()}

    def _predict_tensors(
        self, model: AnyModel, asked: Mapping[str, object]
    ) -> dict[str, torch.Tensor]:
        """Return both targets as tensors on the device of `asked`; these carry no gradient."""
        from pytest_vlmlatency.estimator.tensors import through_numpy  # noqa: PLC0415

        return through_numpy(model.predict, asked, self.inputs, self._knobs)

    def fit(self, records: Source | Table) -> Self:
        """Learn from records: dicts, a file, a folder. What was known before is replaced."""
        table = table_of(records, knobs=self._knobs)
        if not isinstance(records, Table):
            from pytest_vlmlatency.estimator.undeclared import (  # noqa: PLC0415 - it fits estimators
                warn_of_undeclared,
            )

            warn_of_undeclared(table)
        model = self._train(table)
        predicted = unseen_predictions(table, lambda part: self._train(part, model), self.n_folds)
        beyond = ratios_beyond(table, lambda part: self._train(part, model))
        self._outliers = outliers(table, predicted)
        spread = spreads(ratios_of(table, predicted), beyond)
        self._fitted = model, state_of(table, model.inputs, spread, self._outliers)
        return self

    @property
    def model(self) -> AnyModel:
        """What was learnt."""
        return self._known()[0]

    @property
    def state(self) -> State:
        """Ranges, spreads and corrections."""
        return self._known()[1]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that a prediction needs."""
        return self.state.inputs

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What was declared beyond the five inputs."""
        return self._knobs

    @property
    def machine(self) -> str | None:
        """The fingerprint of the machine that the records were measured on, if they say it."""
        return self.state.machine

    @property
    def outliers(self) -> tuple[Outlier, ...]:
        """Records far from their like: all after `fit`, the first ones after loading a file."""
        return self._outliers or self.state.outliers

    def predict_batch(self, columns: Mapping[str, object]) -> Prediction:
        """Return both targets in ms, one row a request; for tensors, tensors on their device."""
        model, state = self._known()
        if has_tensors(columns):
            return self._as_tensors(model, state, columns)
        return self._predict_columns(model, state, self._asked(columns))

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return the ms that a share `q` of measured values stays below, one row a request.

        Where an input lies outside what was measured the quantile is wider: see `is_extrapolated`.
        It is monotone where the prediction is and nothing, or all, is extrapolated. Going in from
        below the measured range the widening ends, and an upper quantile may fall.
        """
        check_share(q)
        model, state = self._known()
        if has_tensors(columns):
            return self._as_tensors(model, state, columns, q=q)
        asked = self._asked(columns)
        outside, own = state.is_extrapolated(asked), state.spreads
        return {
            target: ms * np.where(outside, own[target].wide_factor(q), own[target].factor(q))
            for target, ms in self._predict_columns(model, state, asked).items()
        }

    def is_extrapolated(self, columns: Mapping[str, object]) -> NDArray[np.bool_]:
        """Return, for each row, whether an input lies outside what was measured."""
        return self.state.is_extrapolated(self._asked(columns))

    def predict_from_config(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return both targets in ms: floats for scalars, arrays for lists, tensors for tensors."""
        model, state = self._known()
        values = values_of(config, state.inputs, knobs=self._knobs)
        if values is not None:
            if state.categories:
                state.check_categories(self._asked(values))
            return {
                target: ms * state.drifts[target].ratio
                for target, ms in self._predict_one(model, values).items()
            }
        predicted = self.predict_batch(config)
        if has_tensors(config) or not are_scalars(config):
            return predicted
        return {target: float(ms[0]) for target, ms in predicted.items()}

    def predict(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return what `predict_from_config` returns."""
        return self.predict_from_config(config)

    def update(self, record: Record) -> None:
        """Recalibrate on one more record; after a change of the hardware, a few are enough.

        A record of another kind of time, model, dtype and so on than all that were fitted is an
        error.
        """
        (model, state), table = self._known(), table_of([record], knobs=self._knobs)
        check_alike(state.conditions, table.conditions)
        self.for_machine(table.machine)
        asked = self._asked(table.columns)
        state.check_categories(asked)
        drifts = dict(state.drifts)
        for target, ratios in ratios_of(table, model.predict(asked)).items():
            for ratio in ratios:
                drifts[target] = drifts[target].after(math.log(ratio), state.sigma(target))
        self._fitted = model, replace(state, drifts=drifts)

    def for_machine(self, machine: str | None) -> Self:
        """Return this estimator, with a warning if it was measured on another machine."""
        warn_of_another(self.machine, machine)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load_estimator` reads, and that runs no code.

        Weights of a network that the file held before are removed, unless another file names them.
        """
        model, state = self._known()
        path = Path(path)
        write_file(path, kind=self.kind, state=state, model=self._plain(model, path))
        if weights_beside(path):
            with locked(path.parent):
                remove_former_weights(path)

    @classmethod
    def from_plain(cls, state: State, model: Mapping[str, object], path: Path) -> Self:
        """Return the estimator of a file's content; see `load_estimator`."""
        estimator = cls(knobs=state.knobs)
        loaded = cls._of_plain(model, path)
        if tuple(loaded.inputs) != state.inputs:
            raise EstimatorProblem(
                f"the model has the inputs {', '.join(loaded.inputs)}, its state has "
                f"{', '.join(state.inputs)}; expected the same"
            )
        estimator._fitted = loaded, state
        return estimator

    def _asked(self, columns: Mapping[str, object]) -> Columns:
        return columns_of(columns, self.inputs, knobs=self._knobs)

    def _predict_columns(self, model: AnyModel, state: State, asked: Columns) -> Prediction:
        state.check_categories(asked)
        return {
            target: ms * state.drifts[target].ratio for target, ms in model.predict(asked).items()
        }

    def _as_tensors(
        self, model: AnyModel, state: State, asked: Mapping[str, object], *, q: float | None = None
    ) -> Prediction:
        """Return tensors, as the inputs are; `Prediction` says what all others get."""
        from pytest_vlmlatency.estimator.tensors import at_quantile  # noqa: PLC0415

        shape = shape_of(asked, state.inputs, knobs=self._knobs)
        predicted = {
            target: (ms * state.drifts[target].ratio).broadcast_to(shape)
            for target, ms in self._predict_tensors(model, asked).items()
        }
        if q is not None:
            predicted = at_quantile(predicted, state, asked, q)
        return cast("Prediction", predicted)

    def _known(self) -> tuple[AnyModel, State]:
        if self._fitted is None:
            raise EstimatorProblem(
                "this estimator knows nothing yet; call fit(records) first, or load_estimator(path)"
            )
        return self._fitted
