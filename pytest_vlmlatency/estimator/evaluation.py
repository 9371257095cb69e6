"""Errors of predictions by target, configuration and output length, on records held out.

Three splits: a random fifth; whole configurations left out of training; and the top level of each
input, beyond all training data. Outliers count in every figure. Also the tables of these scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibration import measured
from pytest_vlmlatency.estimator.law_fit import configuration_folds, random_folds, top_levels
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, Prediction
from pytest_vlmlatency.estimator.recipes import PER_TOKEN, Predicted, Recipe
from pytest_vlmlatency.printing import plural, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.estimator.calibration import Outlier
    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import FloatArray
    from pytest_vlmlatency.estimator.law_fit import Mask
    from pytest_vlmlatency.estimator.protocol import Estimator


N_FOLDS = 5
QUANTILE = 0.95
OUTPUT_LENGTHS = ((1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""The groups of the legacy project: there, decode / N rose from one group to the next."""

Make = Callable[[], "Estimator"]


class Split(StrEnum):
    """Which records are held out."""

    RANDOM = "random"
    CONFIGURATIONS = "configurations"
    EXTRAPOLATION = "extrapolation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a target's predictions are off by. Errors are relative to what was measured."""

    n_records: int
    mae_ms: float
    rmse_ms: float
    relative_error: float  # the mean of |measured - predicted| / measured, MAPE as a part of 1
    r2: float | None  # None where all measured values are the same
    coverage: float | None  # the share at or under the predicted P95; None without quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Records that were held out, and what was predicted for them."""

    table: Table
    predicted: Prediction
    upper: Prediction | None  # P95

    def score(self, target: str, chosen: Mask | None = None) -> Score | None:
        """Return the score of a target; None where no chosen record has it."""
        measured_ms = measured(self.table)[target]
        known = np.isfinite(measured_ms) if chosen is None else chosen & np.isfinite(measured_ms)
        if not known.any():
            return None
        upper = None if self.upper is None else self.upper[target][known]
        return score_of(measured_ms[known], self.predicted[target][known], upper)

    def scores(self) -> dict[str, Score]:
        """Return the score of each target that there is; of the legacy ones, the other explains."""
        scores = {target: self.score(target) for target in self.predicted}
        found = {target: score for target, score in scores.items() if score is not None}
        if PER_TOKEN in found:  # each record has it
            first, second = found[PREFILL], found[PER_TOKEN]
            return Predicted(Recipe.ORIGIN, prefill_ms=first, decode_ms=second)
        return found

    def by_configuration(self) -> dict[str, dict[str, Score]]:
        """Return the scores of each configuration, by its name."""
        names = self.table.configurations
        return self._grouped({name: self.table.configuration == i for i, name in enumerate(names)})

    def by_output_length(self) -> dict[str, dict[str, Score]]:
        """Return the scores of each group of output lengths, by its name."""
        tokens = self.table.output_tokens
        return self._grouped(
            {
                length_name(low, high): (tokens >= low) & (tokens <= (high or np.inf))
                for low, high in OUTPUT_LENGTHS
            }
        )

    def _grouped(self, groups: Mapping[str, Mask]) -> dict[str, dict[str, Score]]:
        found: dict[str, dict[str, Score]] = {}
        for name, rows in groups.items():
            scores = {target: self.score(target, rows) for target in self.predicted}
            if any(scores.values()):
                found[name] = {key: score for key, score in scores.items() if score is not None}
        return found


def length_name(low: int, high: int | None) -> str:
    """Return a group of output lengths as text: "2", "3-5", "21+"."""
    if high is None:
        return f"{low}+"
    return str(low) if low == high else f"{low}-{high}"


def score_of(measured_ms: FloatArray, predicted_ms: FloatArray, upper: FloatArray | None) -> Score:
    """Return what predictions are off by."""
    off = predicted_ms - measured_ms
    spread = float(np.sum((measured_ms - measured_ms.mean()) ** 2))
    return Score(
        n_records=len(measured_ms),
        mae_ms=float(np.mean(np.abs(off))),
        rmse_ms=float(np.sqrt(np.mean(off**2))),
        relative_error=float(np.mean(np.abs(off) / measured_ms)),
        r2=1 - float(np.sum(off**2)) / spread if spread > 0 else None,
        coverage=None if upper is None else float(np.mean(measured_ms <= upper)),
    )


def judge(estimator: Estimator, table: Table, *, has_quantiles: bool = True) -> Judged:
    """Return what a fitted estimator says of records, which it may have been fitted on or not."""
    missing = [name for name in estimator.inputs if name not in table.columns]
    if missing:
        raise EstimatorProblem(f"the records lack {', '.join(missing)}, which the estimator needs")
    columns = {name: table.columns[name] for name in estimator.inputs}
    upper = estimator.predict_quantile(columns, QUANTILE) if has_quantiles else None
    return Judged(table=table, predicted=estimator.predict_batch(columns), upper=upper)


def judge_split(make: Make, table: Table, split: Split) -> Judged | None:
    """Return what fresh estimators say of records held out; None where there are too few."""
    parts = [judge(make().fit(table.rows(~out)), table.rows(out)) for out in held_out(table, split)]
    return _joined(parts) if parts else None


def held_out(table: Table, split: Split) -> Iterator[Mask]:
    """Return masks of the records to be predicted by a fit on all others."""
    match split:
        case Split.RANDOM:
            yield random_folds(len(table), N_FOLDS)[0]
        case Split.CONFIGURATIONS:
            yield from configuration_folds(table.configuration, N_FOLDS)
        case Split.EXTRAPOLATION:
            yield from (top for _, top in top_levels(table))
        case _:
            assert_never(split)


def _joined(parts: Sequence[Judged]) -> Judged:
    tables = [part.table for part in parts]
    first = tables[0]
    joined = type(first)(
        columns={
            name: np.concatenate([table.columns[name] for table in tables])
            for name in first.columns
        },
        knobs=first.knobs,
        prefill_ms=np.concatenate([table.prefill_ms for table in tables]),
        decode_ms=np.concatenate([table.decode_ms for table in tables]),
        output_tokens=np.concatenate([table.output_tokens for table in tables]),
        configuration=np.concatenate([table.configuration for table in tables]),
        configurations=first.configurations,
        machine=first.machine,
        places=first.places,
        records=np.concatenate([table.records for table in tables]),
    )
    uppers = [part.upper for part in parts if part.upper is not None]
    return Judged(
        table=joined,
        predicted=_columns([part.predicted for part in parts]),
        upper=_columns(uppers) if len(uppers) == len(parts) else None,
    )


def _columns(parts: Sequence[Prediction]) -> Prediction:
    return {target: np.concatenate([part[target] for part in parts]) for target in parts[0]}


HEADERS = ("", "target", "records", "MAE ms", "RMSE ms", "MAPE", "R2", "P95 holds", "origin's aim")
AIMS = {PREFILL: (5.0, 0.05), DECODE_STEP: (1.0, 0.10), PER_TOKEN: (1.0, 0.10)}
"""MAE in ms and relative error that the legacy project aimed at, of prefill and of a token."""
SHORT = {PREFILL: "prefill", DECODE_STEP: "decode", PER_TOKEN: "decode / N"}
"""Targets as options name them, and the legacy one."""


def scores_text(groups: Mapping[str, Mapping[str, Score]]) -> str:
    """Return named groups of scores as one table."""
    rows = [
        _row(name if index == 0 else "", target, score)
        for name, scores in groups.items()
        for index, (target, score) in enumerate(scores.items())
    ]
    return table_text(HEADERS, rows, n_left=2)


def meets_aim(target: str, score: Score) -> bool:
    """Whether a score is under both bounds of the legacy project."""
    mae_ms, relative_error = AIMS[target]
    return score.mae_ms < mae_ms and score.relative_error < relative_error


def table_text(headers: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """Return rows under their headers; all but the first `n_left` columns end at one place."""
    headers, *rows = ([printable(cell) for cell in row] for row in (headers, *rows))
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headers, *rows)
    )


def _row(name: str, target: str, score: Score) -> tuple[str, ...]:
    return (
        name,
        SHORT[target],
        f"{score.n_records:,}",
        f"{score.mae_ms:.2f}",
        f"{score.rmse_ms:.2f}",
        f"{score.relative_error:.2%}",
        "-" if score.r2 is None else f"{score.r2:.3f}",
        "-" if score.coverage is None else f"{score.coverage:.1%}",
        "met" if meets_aim(target, score) else "missed",
    )


N_NAMED = 5


def outliers_text(found: Sequence[Outlier], where: str, kept: str) -> str:
    """Return how many outliers were found where, what is done with them, and the first few."""
    lines = [f"{plural(len(found), 'outlier')} {where}; {kept}"]
    lines += [
        f"  {outlier.source or f'record {outlier.record}'}: {outlier.target} "
        f"{outlier.measured_ms:.1f} ms, expected {outlier.expected_ms:.1f} ms"
        for outlier in found[:N_NAMED]
    ]
    if len(found) > N_NAMED:
        lines.append(f"  and {len(found) - N_NAMED:,} more")
    return "\n".join(lines)
