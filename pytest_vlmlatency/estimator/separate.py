"""A model of its own for each configuration with enough records; one of all for the others.

Worth it where configurations differ in what no product of their knobs says, such as kernels chosen
by size. Each model is monotone; from one configuration to the next, predictions are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import CONFIGURATION
from pytest_vlmlatency.estimator.files import from_plain, to_plain
from pytest_vlmlatency.estimator.roofline import RooflineEstimator, RooflineModel

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import Columns
    from pytest_vlmlatency.estimator.protocol import Prediction

ENOUGH_RECORDS = 200
"""Of one configuration: with 2.7 % of noise, its level is then known to 0.2 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparateModel:
    """`own` models go with `levels`: what the inputs `keys` are in each of their configurations."""

    inputs: tuple[str, ...]
    keys: tuple[str, ...]
    shared: RooflineModel
    levels: tuple[tuple[float, ...], ...]
    own: tuple[RooflineModel, ...]

    def __post_init__(self) -> None:
        if len(self.levels) != len(self.own) or len(set(self.levels)) != len(self.levels):
            raise EstimatorProblem(
                f"there are {len(self.own)} models for {len(set(self.levels))} configurations"
            )
        if any(len(level) != len(self.keys) for level in self.levels):
            raise EstimatorProblem(f"a configuration is not told by {', '.join(self.keys)}")
        missing = {
            name for model in (self.shared, *self.own) for name in (*model.inputs, *self.keys)
        } - set(self.inputs)
        if missing:
            raise EstimatorProblem(f"the inputs lack {', '.join(sorted(missing))}")

    def predict(self, columns: Columns) -> Prediction:
        """Return both targets in ms, each row by the model of its configuration."""
        predicted = {target: ms.copy() for target, ms in self.shared.predict(columns).items()}
        for level, model in zip(self.levels, self.own, strict=True):
            chosen = np.ones(len(next(iter(columns.values()))), dtype=bool)
            for name, value in zip(self.keys, level, strict=True):
                chosen &= columns[name] == value
            if chosen.any():
                part = {name: values[chosen] for name, values in columns.items()}
                for target, ms in model.predict(part).items():
                    predicted[target][chosen] = ms
        return predicted


class SeparateEstimator(CalibratedEstimator[SeparateModel]):
    """Predicts each configuration by a roofline of its own, where the records suffice."""

    kind: ClassVar[str] = "separate"

    def _train(self, table: Table, like: SeparateModel | None = None) -> SeparateModel:
        if table.knobs:
            raise EstimatorProblem(
                f"separate models know the configurations of {', '.join(CONFIGURATION)} and no "
                f"further knob such as {table.knobs[0].name}; the roofline estimator does"
            )
        one = RooflineEstimator()
        shared = one._train(table, like.shared if like else None)
        keys = tuple(name for name in CONFIGURATION if name in table.columns)
        ids, counts = np.unique(table.configuration, return_counts=True)
        parts = [
            table.rows(table.configuration == index)
            for index in ids[counts >= ENOUGH_RECORDS]
            if int(table.has_decode[table.configuration == index].sum()) >= ENOUGH_RECORDS
        ]
        return SeparateModel(
            inputs=tuple(table.columns),
            keys=keys,
            shared=shared,
            levels=tuple(tuple(float(part.columns[name][0]) for name in keys) for part in parts),
            own=tuple(one._train(part, shared) for part in parts),
        )

    def _plain(self, model: SeparateModel, path: Path) -> Mapping[str, object]:
        del path  # all of it is in the JSON file
        return to_plain(model)

    @classmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> SeparateModel:
        del path
        return from_plain(SeparateModel, plain)
