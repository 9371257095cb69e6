"""How far each estimator is off on records that were measured, against repeats of the same work.

`python -m benchmarks.evidence.estimator_measured` judges the committed records, in minutes. With
`--measure DIR` they are measured anew before, which takes some ten minutes more.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.evidence._decode_figure import decode_figure
from benchmarks.evidence._estimator_methods import DEFAULT, METHODS, SEED, errors_of
from benchmarks.evidence._measured_records import (
    MODEL,
    PASSES,
    QUESTIONS,
    RECORDS,
    measure_records,
    read_circumstances,
)
from benchmarks.evidence._record import DOCS, Claim, Evidence, command_of, publish, say
from benchmarks.evidence._repeats import perfect_misses, works_of
from benchmarks.evidence._table import table as table_text
from pytest_vlmlatency.estimator.columns import CONFIGURATION, Table, table_of
from pytest_vlmlatency.estimator.evaluation import QUANTILE
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.splits import configuration_folds
from pytest_vlmlatency.export import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Fold = tuple[Mask, Mask]  # what is trained on, and what is judged

NAME = "estimator_measured"
FIGURE = "decode_definition.svg"
N_FOLDS = 5
FEW = 50
N_NEEDED = 1_500
RATIOS = {  # at most so many times the perfect predictor's error
    "random": 1.15,
    "unseen configurations": 1.15,
    "extrapolation": 1.4,
    "50 records": 1.4,
}
COVERED = (0.93, 0.97)
STEADY = 0.10  # a decode step of any output length, from the median of all lengths
HALVED = 0.60  # decode / N of the shortest outputs, in parts of the longest's


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one split: mean relative errors, of prefill and decode, and the perfect's."""

    split: str
    method: str
    errors: tuple[float, float]
    perfect: tuple[float, float]

    @property
    def ratio(self) -> float:
        """The larger of both errors in parts of the perfect predictor's."""
        return max(own / best for own, best in zip(self.errors, self.perfect, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """All records of one output length: the median of decode by both definitions."""

    n_tokens: int
    n_records: int
    per_token_ms: float
    per_step_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How the records came about. `contended` is the share of a call spent waiting for a core."""

    n_records: int
    n_asked: int
    n_left_out: int
    n_works: int
    least_repeats: int
    loads: tuple[float, ...]
    contended_median: float | None
    contended_most: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The records, all rows, the share that P95 covers by target, and decode by output length."""

    taken: Taken
    rows: tuple[Row, ...]
    coverage: dict[str, float]
    lengths: tuple[Length, ...]


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


def compare(table: Table, methods: Sequence[str]) -> tuple[Row, ...]:
    """Return a row for each method on each split; all records that were held out count alike."""
    misses = perfect_misses(table)
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


def judge_figures(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the records and of the default, and whether it holds."""
    taken = figures.taken
    default = {row.split: row for row in figures.rows if row.method == DEFAULT}
    low, high = COVERED
    shares = figures.coverage.values()
    return (
        Claim(
            text=f"Every call that was asked for is a record, {N_NEEDED:,} or more, and each piece "
            f"of work was measured {PASSES[-1]} times.",
            holds=taken.n_records == taken.n_asked
            and taken.n_records >= N_NEEDED
            and taken.n_left_out == 0
            and taken.least_repeats == PASSES[-1],
            seen=f"{taken.n_records:,} of {taken.n_asked:,}, {taken.n_left_out} left out, at least "
            f"{taken.least_repeats} times.",
        ),
        *(
            Claim(
                text=f"Of measured records, {split}, the default's error is at most {bound} times "
                f"the perfect predictor's.",
                holds=default[split].ratio <= bound,
                seen=f"{default[split].ratio:.3f} times.",
            )
            for split, bound in RATIOS.items()
        ),
        Claim(
            text=f"P95 holds for {low:.0%} to {high:.0%} of measured records held out at random.",
            holds=low <= min(shares) and max(shares) <= high,
            seen=f"{min(shares):.1%} to {max(shares):.1%}.",
        ),
        *_decode_claims(figures.lengths),
    )


def _decode_claims(lengths: Sequence[Length]) -> tuple[Claim, Claim]:
    steps = np.array([length.per_step_ms for length in lengths])
    furthest = float(np.max(np.abs(steps / np.median(steps) - 1)))
    shortest, longest = lengths[0], lengths[-1]
    share = shortest.per_token_ms / longest.per_token_ms
    return (
        Claim(
            text=f"Decode / (N - 1) of every output length is within {STEADY:.0%} of its median "
            f"over the lengths.",
            holds=furthest <= STEADY,
            seen=f"{furthest:.1%} off at the most.",
        ),
        Claim(
            text=f"Decode / N of the shortest outputs is under {HALVED:.0%} of the longest's.",
            holds=share < HALVED,
            seen=f"{share:.0%}, of {shortest.n_tokens} and {longest.n_tokens} tokens.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return how it was measured, the table of errors, and both definitions of decode."""
    figures = evidence.figures
    splits = list(dict.fromkeys(row.split for row in figures.rows))
    cells = {(row.split, row.method): row for row in figures.rows}
    methods = dict.fromkeys(row.method for row in figures.rows)
    lines = [["perfect", *(_percent(cells[split, DEFAULT].perfect) for split in splits)]]
    lines += [
        [method, *(_percent(cells[split, method].errors) for split in splits)] for method in methods
    ]
    return (
        _taken_text(figures.taken)
        + "\n\nMean absolute percentage errors, prefill/decode, of what was held out (at random: "
        "whole pieces of work, five times a fifth; outliers are in). The origin's recipe is judged "
        "by decode / N, which it predicts. What a perfect predictor would be off by is known from "
        "the repeats: each call against the median of all other calls of its work, divided by how "
        "much further off such a median is than the true middle, for normal noise. Noise with "
        "longer tails makes this too strict, never too lax; but what all calls of a work share, "
        "such as a cache's mood through both passes, counts as work.\n\n"
        + table_text(["estimator", *splits], lines)
        + f"\n\n{_decode_text(figures.lengths)}"
    )


def _taken_text(taken: Taken) -> str:
    loads = ", ".join(f"{load:g}" for load in taken.loads)
    known = taken.contended_median is not None and taken.contended_most is not None
    contended = (
        f"the median call waited {taken.contended_median:.1%} of its time for a core, the worst "
        f"{taken.contended_most:.0%}"
        if known
        else "how long calls waited for a core is not known"
    )
    return (
        f"CPU time of {taken.n_records:,} calls of {MODEL}, by `vlmlatency profile`: "
        f"{len(QUESTIONS)} questions, {taken.n_works // len(QUESTIONS)} configurations, "
        f"{taken.least_repeats} calls of each in {len(PASSES)} passes. The machine was not idle: "
        f"its load was {loads} before, between and after the passes, and {contended}."
    )


def _decode_text(lengths: Sequence[Length]) -> str:
    shortest, longest = lengths[0], lengths[-1]
    rows = [
        [
            str(length.n_tokens),
            f"{length.n_records:,}",
            f"{length.per_token_ms:.2f}",
            f"{length.per_step_ms:.2f}",
        ]
        for length in lengths
    ]
    return (
        f"The same records show what decode per token means. N tokens take N - 1 decode steps. "
        f"Divided by N, decode seems to slow down with the output's length, from "
        f"{shortest.per_token_ms:.2f} ms at {shortest.n_tokens} tokens to "
        f"{longest.per_token_ms:.2f} ms at {longest.n_tokens}; divided by N - 1, it goes from "
        f"{shortest.per_step_ms:.2f} to {longest.per_step_ms:.2f} ms. Medians over all "
        f"configurations, each length being one question's:\n\n"
        f"![Decode by output length: over N it rises, over N - 1 it does not]({FIGURE})\n\n"
        + table_text(["output tokens", "records", "T / N, ms", "T / (N - 1), ms"], rows)
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


def _percent(errors: tuple[float, float]) -> str:
    return "/".join(f"{100 * error:.2f}" for error in errors)


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
    figures = Figures(
        taken=taken_of(table, read_contended()),
        rows=compare(table, list(METHODS)),
        coverage=coverage_of(table),
        lengths=lengths_of(table),
    )
    evidence = Evidence[Figures](
        name=NAME,
        command=command_of(NAME),
        seed=SEED,
        started_at=circumstances.started_at,
        environment=circumstances.environment,  # where the records are from; nothing else counts
        claims=judge_figures(figures),
        figures=figures,
    )
    (DOCS / FIGURE).write_text(draw(figures.lengths), encoding="utf-8")
    return publish(evidence, describe)


if __name__ == "__main__":
    sys.exit(main())
