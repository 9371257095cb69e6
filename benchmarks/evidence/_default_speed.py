"""How long the default estimator takes: to train, to answer, and to search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.search import config_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.estimator.columns import Table

N_BATCH = 100_000
N_SINGLE = 2_000
N_REQUESTS = 10_000
FASTEST = {
    "one prediction": 1e-4,
    "a row of 100,000": 1e-6,
    "1,000,000 pairs of a configuration and a request": 1.0,
    "training on 54,000 records in columns": 2.0,
    "training on 54,000 records as dicts, reading and checking them included": 2.0,
}
"""The most seconds that each may take, on one core."""


def time_default(records: Sequence[Mapping[str, object]], table: Table) -> dict[str, float]:
    """Return the seconds of each of FASTEST; the table is that of the records."""
    estimator = RooflineEstimator()
    from_columns_s = _quickest(lambda: estimator.fit(table), 3)
    from_dicts_s = _quickest(lambda: RooflineEstimator().fit(records), 3)
    one = {name: float(table.columns[name][0]) for name in estimator.inputs}
    many = {name: np.resize(table.columns[name], N_BATCH) for name in estimator.inputs}
    grid = config_grid(tier=["low"], top_k=range(4, 14), num_active_blocks=range(7, 17))
    requests = {
        name: np.resize(table.columns[name], N_REQUESTS)
        for name in ("text_tokens", "vision_tokens")
    }

    def single() -> None:
        for _ in range(N_SINGLE):
            estimator.predict(one)

    seconds = (
        _quickest(single, 5) / N_SINGLE,
        _quickest(lambda: estimator.predict_batch(many), 5) / N_BATCH,
        _quickest(lambda: estimator.feasible_pairs(grid, requests, 150, 8, quantile=0.95), 5),
        from_columns_s,
        from_dicts_s,
    )
    return dict(zip(FASTEST, seconds, strict=True))


def _quickest(call: Callable[[], object], n_rounds: int) -> float:
    """Return the seconds of the quickest round: others were disturbed."""
    seconds = []
    for _ in range(n_rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
