"""A look-up table: what requests like this one took. Simple, and lost where none was measured.

Records are put into cells by their configuration and their tokens; a request takes the median of
the nearest cell, where another configuration is always farther than other tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.spatial import KDTree

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.files import from_plain, to_plain
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.trees import amounts_in

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import Columns, FloatArray

TOKENS = ("vision_tokens", "text_tokens")
N_BINS = {"vision_tokens": 24, "text_tokens": 6}
LEAST_IN_CELL = 8  # records on average: with fewer records, there are fewer bins
KNOB_WEIGHT = 10.0  # of a knob's whole range against that of tokens


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of one target: where they are, in parts of each input's range, and their median."""

    places: tuple[tuple[float, ...], ...]
    medians_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.places) != len(self.medians_ms) or not self.places:
            raise EstimatorProblem(
                f"a look-up table has {len(self.places)} places and {len(self.medians_ms)} medians"
            )
        if len({len(place) for place in self.places}) != 1:
            raise EstimatorProblem("the places of a look-up table are of several lengths")
        if not np.all(np.isfinite(self.places)) or not np.all(np.isfinite(self.medians_ms)):
            raise EstimatorProblem("a look-up table has a number that is not finite")
        if min(self.medians_ms) <= 0:
            raise EstimatorProblem(f"a look-up table has the median {min(self.medians_ms)} ms")

    def nearest_ms(self, rows: FloatArray) -> FloatArray:
        """Return the median of the nearest cell of each row."""
        found = self._tree.query(rows)[1]
        return np.asarray(np.array(self.medians_ms)[found])

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(np.array(self.places))


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUpModel:
    """Cells of each target; `scales` turns an input into parts of its range, weighted."""

    inputs: tuple[str, ...]
    scales: tuple[float, ...]
    prefill: Cells
    decode: Cells

    def __post_init__(self) -> None:
        widths = {len(self.scales), len(self.prefill.places[0]), len(self.decode.places[0])}
        if widths != {len(self.inputs)} or not np.all(np.isfinite(self.scales)):
            raise EstimatorProblem(f"a look-up table of {len(self.inputs)} inputs lacks scales")

    def predict(self, columns: Columns) -> Prediction:
        """Return both targets in ms."""
        rows = np.stack([columns[name] for name in self.inputs], axis=1) * np.array(self.scales)
        return {PREFILL: self.prefill.nearest_ms(rows), DECODE_STEP: self.decode.nearest_ms(rows)}


class LookUpEstimator(CalibratedEstimator[LookUpModel]):
    """Predicts the median of what was measured nearest to a request."""

    kind: ClassVar[str] = "look-up"

    def _train(self, table: Table, like: LookUpModel | None = None) -> LookUpModel:
        del like
        inputs = amounts_in(table, "a look-up table")
        scales = tuple(_scale(name, table.columns[name]) for name in inputs)
        decoded = table.rows(table.has_decode)
        return LookUpModel(
            inputs=inputs,
            scales=scales,
            prefill=_cells(table, inputs, scales, table.prefill_ms),
            decode=_cells(decoded, inputs, scales, decoded.decode_per_step_ms),
        )

    def _plain(self, model: LookUpModel, path: Path) -> Mapping[str, object]:
        del path  # all of it is in the JSON file
        return to_plain(model)

    @classmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> LookUpModel:
        del path
        return from_plain(LookUpModel, plain)


def _scale(name: str, values: FloatArray) -> float:
    width = float(np.ptp(values)) or 1.0
    return (1.0 if name in TOKENS else KNOB_WEIGHT) / width


def _cells(
    table: Table, inputs: tuple[str, ...], scales: tuple[float, ...], times_ms: FloatArray
) -> Cells:
    if not len(table):
        raise EstimatorProblem("there is no record of a target; expected at least one")
    cell = _cell_of(table, inputs)
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    rows = np.stack([table.columns[name] for name in inputs], axis=1) * np.array(scales)
    groups = np.split(order, starts[1:])
    return Cells(
        places=tuple(tuple(rows[group].mean(axis=0).tolist()) for group in groups),
        medians_ms=tuple(float(np.median(times_ms[group])) for group in groups),
    )


def _cell_of(table: Table, inputs: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the number of each record's cell: its knobs, and bins of its tokens."""
    knobs = [name for name in inputs if name not in TOKENS]
    levels = [np.unique(table.columns[name], return_inverse=True)[1] for name in knobs]
    cell = _together([np.zeros(len(table), dtype=np.int64), *levels])
    room = len(table) / (LEAST_IN_CELL * (int(cell.max()) + 1))
    for name in (name for name in TOKENS if name in inputs):
        n_bins = int(np.clip(room, 1, N_BINS[name]))
        edges = np.quantile(table.columns[name], np.linspace(0, 1, n_bins + 1)[1:-1])
        cell = _together([cell, np.searchsorted(edges, table.columns[name], side="right")])
        room /= n_bins
    return cell


def _together(levels: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    cell = levels[0]
    for level in levels[1:]:
        cell = np.unique(cell * (int(level.max()) + 1) + level, return_inverse=True)[1]
    return cell
