"""The default estimator: a sum of physics products, fitted by non-negative least squares.

Prefill is fitted on its ms, decode on the total of its steps: (N - 1) x f + offset, f being the
predicted step. The offset is what a decode costs whatever its number of steps.

`SeparateEstimator` fits one such model for each configuration with enough records, and one of all
records for the rest. It helps where configurations differ in what no product of their knobs
expresses, such as kernels chosen by size. Each model is monotone; across configurations,
predictions are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import CONFIGURATION
from pytest_vlmlatency.estimator.files import from_plain, to_plain
from pytest_vlmlatency.estimator.law_fit import Target, fit_law
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.terms import (
    DECODE_PRODUCTS,
    PREFILL_PRODUCTS,
    TEXT,
    TOKENS,
    VISION,
    Law,
    amounts_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import Columns
    from pytest_vlmlatency.estimator.protocol import Prediction


LEAST_RECORDS = 8  # in all: a fold that checks the fit does with fewer
OF_PREFILL = Target(PREFILL_PRODUCTS, lambda table: table.prefill_ms)
OF_DECODE = Target(
    DECODE_PRODUCTS, lambda table: table.decode_ms, times=lambda table: table.decode_steps
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineModel:
    """Two laws and an offset; `families` says what was added to the physics products, by target."""

    inputs: tuple[str, ...]
    prefill: Law
    decode: Law  # of one step
    decode_offset_ms: float
    families: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        unknown = (self.prefill.names | self.decode.names) - {*self.inputs, TOKENS}
        if unknown:
            raise EstimatorProblem(
                f"a law follows {', '.join(sorted(unknown))}; expected {TOKENS} and the inputs, "
                f"{', '.join(self.inputs)}"
            )
        if not 0 <= self.decode_offset_ms < math.inf:
            raise EstimatorProblem(
                f"the decode offset is {self.decode_offset_ms} ms; expected a finite time from 0 up"
            )

    def predict(self, columns: Columns) -> Prediction:
        """Return both targets in ms."""
        amounts = amounts_of(columns)
        return {
            PREFILL: self.prefill.of_columns(amounts),
            DECODE_STEP: self.decode.of_columns(amounts),
        }

    def predict_one(self, values: Mapping[str, float | str]) -> dict[str, float]:
        """Return both targets of one request: the same numbers, in a tenth of the time."""
        tokens = [value for name in (VISION, TEXT) if isinstance(value := values.get(name), float)]
        amounts = {**values, TOKENS: sum(tokens)}
        return {
            PREFILL: self.prefill.of_values(amounts),
            DECODE_STEP: self.decode.of_values(amounts),
        }


class RooflineEstimator(CalibratedEstimator[RooflineModel]):
    """Predicts prefill and decode step; more tokens, experts or blocks are never less time."""

    kind: ClassVar[str] = "roofline"

    def _train(self, table: Table, like: RooflineModel | None = None) -> RooflineModel:
        n_decoded = int(table.has_decode.sum())
        for words, n_records in (("", len(table)), (" with a decode step", n_decoded)):
            if like is None and n_records < LEAST_RECORDS:
                raise EstimatorProblem(
                    f"there are {n_records} records{words}; expected at least {LEAST_RECORDS}: "
                    f"measure more, with outputs of several tokens"
                )
        chosen = like.families if like else {}
        prefill = fit_law(table, OF_PREFILL, chosen.get(PREFILL))
        decoded = table if n_decoded == len(table) else table.rows(table.has_decode)
        decode = fit_law(decoded, OF_DECODE, chosen.get(DECODE_STEP))
        return RooflineModel(
            inputs=tuple(name for name in table.columns if name != "tier_idx"),
            prefill=prefill.law,
            decode=decode.law,
            decode_offset_ms=decode.offset_ms,
            families={PREFILL: prefill.families, DECODE_STEP: decode.families},
        )

    def _plain(self, model: RooflineModel, path: Path) -> Mapping[str, object]:
        return to_plain(model)

    @classmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> RooflineModel:
        return from_plain(RooflineModel, plain)

    def _predict_one(
        self, model: RooflineModel, values: Mapping[str, float | str]
    ) -> Mapping[str, float]:
        return model.predict_one(values)

    def _predict_tensors(
        self, model: RooflineModel, asked: Mapping[str, object]
    ) -> dict[str, torch.Tensor]:
        from pytest_vlmlatency.estimator.tensors import of_roofline  # noqa: PLC0415

        return of_roofline(model, asked, self._knobs)


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
