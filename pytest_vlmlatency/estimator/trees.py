"""Boosted trees, grown by scikit-learn and monotone: more tokens are never predicted less time.

A forest for each target, of logarithms. Once grown, the trees are plain arrays that numpy walks
through: predicting needs no scikit-learn, and a file holds numbers, not a pickle. That the arrays
say what scikit-learn says is checked whenever trees were grown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.files import from_plain, to_plain
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import Columns, FloatArray

N_TREES = 150
LEARNING_RATE = 0.1
MOST_LEAVES = 31
LEAST_IN_LEAF = 20
ROWS_AT_ONCE = 512  # times the trees: what stays in a core's cache
N_CHECKED = 500
LEAST_RECORDS = 8


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Trees as arrays over all their nodes. A leaf leads to itself; `roots` are where trees begin.

    A row goes left where its feature is not above the threshold.
    """

    baseline: float
    depth: int
    roots: tuple[int, ...]
    features: tuple[int, ...]
    thresholds: tuple[float, ...]
    lefts: tuple[int, ...]
    rights: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        n_nodes = len(self.features)
        lists = (self.thresholds, self.lefts, self.rights, self.values)
        if any(len(one) != n_nodes for one in lists):
            raise EstimatorProblem("the lists of a forest's nodes differ in length")
        for node in (*self.roots, *self.lefts, *self.rights):
            if not 0 <= node < n_nodes:
                raise EstimatorProblem(f"a forest leads to the node {node} of {n_nodes}")
        if not np.all(np.isfinite((self.baseline, *self.thresholds, *self.values))):
            raise EstimatorProblem("a forest has a number that is not finite")
        if not 0 <= self.depth <= n_nodes:
            raise EstimatorProblem(f"a forest of {n_nodes} nodes has the depth {self.depth}")

    def predict(self, rows: FloatArray) -> FloatArray:
        """Return the sum of all trees for each row (B, F) -> (B,)."""
        parts = [
            self._sum(rows[start : start + ROWS_AT_ONCE])
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
        return np.concatenate([np.empty(0), *parts])

    def _sum(self, rows: FloatArray) -> FloatArray:
        features, thresholds, lefts, rights, values = self._arrays
        which = np.arange(len(rows))[:, None]
        nodes = np.broadcast_to(np.array(self.roots), (len(rows), len(self.roots)))
        for _ in range(self.depth):
            goes_left = rows[which, features[nodes]] <= thresholds[nodes]
            nodes = np.where(goes_left, lefts[nodes], rights[nodes])
        return np.asarray(self.baseline + values[nodes].sum(axis=1))

    @cached_property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        lists = (self.features, self.thresholds, self.lefts, self.rights, self.values)
        return tuple(np.array(one) for one in lists)


@dataclass(frozen=True, slots=True, kw_only=True)
class TreesModel:
    """A forest of each target."""

    inputs: tuple[str, ...]
    prefill: Forest
    decode: Forest

    def __post_init__(self) -> None:
        for forest in (self.prefill, self.decode):
            if any(not 0 <= feature < len(self.inputs) for feature in forest.features):
                raise EstimatorProblem(f"a forest asks for an input beyond {len(self.inputs)}")

    def predict(self, columns: Columns) -> Prediction:
        """Return both targets in ms."""
        rows = np.stack([columns[name] for name in self.inputs], axis=1)
        forests = {PREFILL: self.prefill, DECODE_STEP: self.decode}
        return {target: np.exp(forest.predict(rows)) for target, forest in forests.items()}


class BoostedTreesEstimator(CalibratedEstimator[TreesModel]):
    """Predicts by boosted trees: good between what was measured, level beyond it."""

    kind: ClassVar[str] = "trees"

    def _train(self, table: Table, like: TreesModel | None = None) -> TreesModel:
        inputs = amounts_in(table, "boosted trees")
        if like is None:
            _check_number(table)
        decoded = table.rows(table.has_decode)
        return TreesModel(
            inputs=inputs,
            prefill=_grown(table, inputs, table.prefill_ms),
            decode=_grown(decoded, inputs, decoded.decode_per_step_ms),
        )

    def _plain(self, model: TreesModel, path: Path) -> Mapping[str, object]:
        del path  # all of it is in the JSON file
        return to_plain(model)

    @classmethod
    def _of_plain(cls, plain: Mapping[str, object], path: Path) -> TreesModel:
        del path
        return from_plain(TreesModel, plain)


def amounts_in(table: Table, what: str) -> tuple[str, ...]:
    """Return the inputs that are amounts; the tier is no further one, its tokens say it."""
    categories = [knob.name for knob in table.knobs if knob.is_category]
    if categories:
        raise EstimatorProblem(
            f"{what} cannot take a category such as {categories[0]}; the roofline estimator can"
        )
    names = tuple(table.columns)
    return tuple(name for name in names if name != "tier_idx" or "vision_tokens" not in names)


def _check_number(table: Table) -> None:
    n_decoded = int(table.has_decode.sum())
    for words, n_records in (("", len(table)), (" with a decode step", n_decoded)):
        if n_records < LEAST_RECORDS:
            raise EstimatorProblem(
                f"there are {n_records} records{words}; expected at least {LEAST_RECORDS}: "
                f"measure more, with outputs of several tokens"
            )


def _grown(table: Table, inputs: tuple[str, ...], times_ms: FloatArray) -> Forest:
    rows, logs = np.stack([table.columns[name] for name in inputs], axis=1), np.log(times_ms)
    regressor = _regressor(len(inputs), len(table))
    regressor.fit(rows, logs)
    forest = _forest(regressor)
    some = rows[:N_CHECKED]
    if not np.allclose(forest.predict(some), regressor.predict(some), rtol=0, atol=1e-6):
        raise EstimatorProblem(
            f"the trees of this version of scikit-learn ({_version()}) are stored in another way "
            f"than is known here, so they cannot be read out; install an earlier one"
        )
    return forest


def _regressor(n_inputs: int, n_records: int) -> Any:
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EstimatorProblem(
            "boosted trees are grown by scikit-learn, which is not installed; install it with: "
            "pip install 'pytest-vlmlatency[trees]'"
        ) from error
    return HistGradientBoostingRegressor(
        max_iter=N_TREES,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=MOST_LEAVES,
        min_samples_leaf=max(2, min(LEAST_IN_LEAF, n_records // 20)),
        monotonic_cst=[1] * n_inputs,
        early_stopping=False,
    )


def _version() -> str:
    import sklearn  # noqa: PLC0415 - an extra

    return str(sklearn.__version__)


def _forest(regressor: Any) -> Forest:
    """Return the grown trees; `_predictors` is private, so what is read is checked afterwards."""
    features: list[int] = []
    thresholds: list[float] = []
    lefts: list[int] = []
    rights: list[int] = []
    values: list[float] = []
    roots: list[int] = []
    depth = 0
    for (tree,) in regressor._predictors:
        start = len(features)
        roots.append(start)
        depth = max(depth, int(tree.nodes["depth"].max()))
        for index, node in enumerate(tree.nodes):
            is_leaf = bool(node["is_leaf"])
            features.append(0 if is_leaf else int(node["feature_idx"]))
            thresholds.append(0.0 if is_leaf else float(node["num_threshold"]))
            lefts.append(start + (index if is_leaf else int(node["left"])))
            rights.append(start + (index if is_leaf else int(node["right"])))
            values.append(float(node["value"]) if is_leaf else 0.0)
    return Forest(
        baseline=float(np.ravel(regressor._baseline_prediction)[0]),
        depth=depth,
        roots=tuple(roots),
        features=tuple(features),
        thresholds=tuple(thresholds),
        lefts=tuple(lefts),
        rights=tuple(rights),
        values=tuple(values),
    )
