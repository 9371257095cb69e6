"""How far each estimator is off on records that were measured, against repeats of the same work.

`python -m benchmarks.evidence.estimator_measured` judges the committed records, in minutes. With
`--measure DIR` they are measured anew before, which takes some ten minutes more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.evidence._decode_figure import decode_figure
from benchmarks.evidence._estimator_methods import METHODS, SEED, errors_of
from benchmarks.evidence._measured_figures import Figures, Length, Row, Taken, judge_figures
from benchmarks.evidence._measured_records import (
    RECORDS,
    measure_records,
    read_circumstances,
)
from benchmarks.evidence._measured_text import FIGURE, describe
from benchmarks.evidence._record import DOCS, publish_figures, say
from benchmarks.evidence._repeats import intervals_of, own_median_errors, perfect_of, works_of
from pytest_vlmlatency.estimator.columns import CONFIGURATION, Table, table_of
from pytest_vlmlatency.estimator.evaluation import QUANTILE
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.splits import configuration_folds
from pytest_vlmlatency.export import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.evidence._repeats import Perfect

    Mask = NDArray[np.bool_]
    Fold = tuple[Mask, Mask]  # what is trained on, and what is judged

NAME = "estimator_measured"
N_FOLDS = 5
FEW = 50


def folds_of(table: Table, works: NDArray[np.int64]) -> dict[str, list[Fold]]:
    """Return what to train on and what to judge by, for each split.

    At random, whole works are held out: a look-up table would otherwise find other calls of just
    what it is asked for.
    """
    random = [(~out, out) for out in configuration_folds(works, N_FOLDS)]
    unseen = [(~out, out) for out in configuration_folds(table.configuration, N_FOLDS)]
    top = np.any([table.columns[name] == table.columns[name].max() for name in CONFIGURATION], 0)
    rng = np.random.default_rng(SEED)
    few = [(_some(known, rng), out) for known, out in random]
    return {
        "random": random,
        "unseen configurations": unseen,
        "extrapolation": [(~top, top)],
        "50 records": few,
    }


def compare(table: Table, methods: Sequence[str], known: Mapping[str, Perfect]) -> tuple[Row, ...]:
    """Return a row for each method on each split; all records that were held out count alike."""
    misses = {target: perfect.misses for target, perfect in known.items()}
    rows = []
    for split, folds in folds_of(table, works_of(table)).items():
        judged = np.concatenate([np.flatnonzero(out) for _, out in folds])
        perfect = (misses[PREFILL][judged].mean(), misses[DECODE_STEP][judged].mean())
        for method in methods:
            say(f"{split}: {method}")
            parts = [_fold_errors(method, table, fold) for fold in folds]
            errors = np.average(parts, axis=0, weights=[out.sum() for _, out in folds])
            row = Row(
                split=split,
                method=method,
                errors=(float(errors[0]), float(errors[1])),
                perfect=(float(perfect[0]), float(perfect[1])),
            )
            rows.append(row)
    return tuple(rows)


def coverage_of(table: Table) -> dict[str, float]:
    """Return the share of records at or under the P95 of a fit on other works, by target."""
    under: dict[str, list[Mask]] = {PREFILL: [], DECODE_STEP: []}
    for known, out in folds_of(table, works_of(table))["random"]:
        estimator, judged = RooflineEstimator().fit(table.rows(known)), table.rows(out)
        upper = estimator.predict_quantile(
            {name: judged.columns[name] for name in estimator.inputs}, QUANTILE
        )
        under[PREFILL].append(judged.prefill_ms <= upper[PREFILL])
        under[DECODE_STEP].append(judged.decode_per_step_ms <= upper[DECODE_STEP])
    return {target: float(np.concatenate(parts).mean()) for target, parts in under.items()}


def lengths_of(table: Table) -> tuple[Length, ...]:
    """Return decode by both definitions for each output length, shortest first."""
    found = []
    for n_tokens in np.unique(table.output_tokens):
        rows = table.output_tokens == n_tokens
        length = Length(
            n_tokens=int(n_tokens),
            n_records=int(rows.sum()),
            per_token_ms=float(np.median(table.decode_ms[rows] / n_tokens)),
            per_step_ms=float(np.median(table.decode_ms[rows] / (n_tokens - 1))),
        )
        found.append(length)
    return tuple(found)


def taken_of(table: Table, contended: Sequence[float]) -> Taken:
    """Return how the committed records came about."""
    circumstances = read_circumstances()
    repeats = np.bincount(works_of(table))
    return Taken(
        n_records=len(table),
        n_asked=circumstances.n_asked,
        n_left_out=circumstances.n_left_out,
        n_works=len(repeats),
        least_repeats=int(repeats.min()),
        loads=circumstances.loads,
        contended_median=float(np.median(contended)) if contended else None,
        contended_most=max(contended, default=None),
    )


def draw(lengths: Sequence[Length]) -> str:
    """Return the figure of both definitions."""
    return decode_figure(
        [(length.n_tokens, length.per_token_ms) for length in lengths],
        [(length.n_tokens, length.per_step_ms) for length in lengths],
    )


def _fold_errors(method: str, table: Table, fold: Fold) -> tuple[float, float]:
    known, out = fold
    judged = table.rows(out)
    return errors_of(method, METHODS[method](table.rows(known))(judged), judged)


def _some(known: Mask, rng: np.random.Generator) -> Mask:
    chosen = rng.choice(np.flatnonzero(known), FEW, replace=False)
    return np.isin(np.arange(len(known)), chosen)


def read_contended() -> list[float]:
    """Return the share of each call that was spent waiting for a core, where it is known."""
    said: list[Mapping[str, object]] = list(read_records(RECORDS))
    shares = [record.get("contended_ratio") for record in said]
    return [share for share in shares if isinstance(share, float)]


def main() -> int:
    """Measure if asked, judge, draw, publish; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", metavar="DIR", type=Path, help="measure anew, by way of DIR")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.measure is not None:
        measure_records(given.measure)
    circumstances = read_circumstances()
    table = table_of(RECORDS)
    perfect = perfect_of(table)
    figures = Figures(
        taken=taken_of(table, read_contended()),
        shift={target: known.shift for target, known in perfect.items()},
        shared={target: known.shared for target, known in perfect.items()},
        interval=intervals_of(table, perfect),
        own_median=own_median_errors(table),
        rows=compare(table, list(METHODS), perfect),
        coverage=coverage_of(table),
        lengths=lengths_of(table),
    )
    (DOCS / FIGURE).write_text(draw(figures.lengths), encoding="utf-8")
    return publish_figures(
        NAME,
        figures,
        judge_figures,
        describe,
        seed=SEED,
        started_at=circumstances.started_at,
        environment=circumstances.environment,  # where the records are from; nothing else counts
    )


if __name__ == "__main__":
    sys.exit(main())
