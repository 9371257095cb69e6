"""Errors of each estimator on measured records, beside those of repeated measurements.

`python -m benchmarks.evidence.estimator_measured` judges the committed records, in minutes;
`--measure DIR` measures them anew first, which takes ten minutes more. The figure is an SVG written
by hand: small, and the same bytes for the same figures, so that it can be checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.evidence._estimator_methods import DEFAULT, METHODS, SEED, errors_of
from benchmarks.evidence._measured_records import (
    MODEL,
    PASSES,
    QUESTIONS,
    RECORDS,
    intervals_of,
    measure_records,
    own_median_errors,
    perfect_of,
    read_circumstances,
    works_of,
)
from benchmarks.evidence._record import DOCS, Claim, publish_figures, say
from benchmarks.evidence._statistics import table as table_text
from pytest_vlmlatency.estimator.columns import CONFIGURATION, Table, table_of
from pytest_vlmlatency.estimator.evaluation import QUANTILE
from pytest_vlmlatency.estimator.law_fit import configuration_folds
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.export import read_records

if TYPE_CHECKING:
    from benchmarks.evidence._record import Evidence


WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 30, 50  # margins around what is drawn
TOKENS_TICK, MS_TICK = 4, 1.0
COLOURS = ("#c0392b", "#1f6fb2")

Points = Sequence[tuple[int, float]]


def decode_figure(per_token_ms: Points, per_step_ms: Points) -> str:
    """Return the figure: a line for each definition, of (output tokens, ms) in any order."""
    lines = {"T / N": sorted(per_token_ms), "T / (N - 1)": sorted(per_step_ms)}
    longest = max(n for points in lines.values() for n, _ in points)
    most_ms = 1.15 * max(ms for points in lines.values() for _, ms in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">',
        "<title>Decode per output token and per decode step, by output length</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(longest, most_ms),
    ]
    for index, (name, points) in enumerate(lines.items()):
        places = [_place(n, ms, longest, most_ms) for n, ms in points]
        parts += _line(name, places, COLOURS[index])
        x, y = places[-1]
        parts.append(_text(x, y + (20 if index == 0 else -10), name, "end", COLOURS[index]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(n_tokens: float, ms: float, longest: int, most_ms: float) -> tuple[float, float]:
    across = (WIDTH - LEFT - RIGHT) * n_tokens / longest
    up = (HEIGHT - TOP - BOTTOM) * ms / most_ms
    return LEFT + across, HEIGHT - BOTTOM - up


def _axes(longest: int, most_ms: float) -> list[str]:
    left, bottom = LEFT, HEIGHT - BOTTOM
    parts = [
        f'<path d="M{left},{TOP} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="black"/>',
        _text(WIDTH / 2, HEIGHT - 12, "output tokens, N"),
        _text(left, TOP - 12, "decode, ms (median)", "start"),
    ]
    for n_tokens in range(0, longest + 1, TOKENS_TICK):
        x, _ = _place(n_tokens, 0, longest, most_ms)
        parts.append(_text(x, bottom + 18, str(n_tokens)))
    for tick in range(int(most_ms / MS_TICK) + 1):
        _, y = _place(0, tick * MS_TICK, longest, most_ms)
        parts.append(_text(left - 6, y + 4, f"{tick * MS_TICK:g}", "end"))
    return parts


def _line(name: str, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    line = f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2">'
    return [f"{line}<title>{name}</title></polyline>", *dots]


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


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
    def ratios(self) -> tuple[float, float]:
        """Both errors in parts of the perfect predictor's."""
        return self.errors[0] / self.perfect[0], self.errors[1] / self.perfect[1]


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
    """The records, all rows, the share that P95 covers by target, and decode by output length.

    `shift` is by how much, in parts of 1, one pass was slower than the other, and `shared` how much
    of the other noise's variance calls of a work in one pass have in common: both by target.
    `interval` is where the perfect predictor's error over all records lies with 95 %, and
    `own_median` the error of each work's median over all of its calls.
    """

    taken: Taken
    shift: dict[str, float]
    shared: dict[str, float]
    interval: dict[str, tuple[float, float]]
    own_median: dict[str, float]
    rows: tuple[Row, ...]
    coverage: dict[str, float]
    lengths: tuple[Length, ...]


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
                holds=max(default[split].ratios) <= bound,
                seen="{:.3f} and {:.3f} times, prefill and decode.".format(*default[split].ratios),
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


FIGURE = "decode_definition.svg"


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
        "by decode / N, which it predicts.\n\n"
        f"{_perfect_text(figures)}\n\n"
        + table_text(["estimator", *splits], lines)
        + f"\n\n{_decode_text(figures.lengths)}"
    )


def _perfect_text(figures: Figures) -> str:
    shift = "/".join(f"{100 * part:.1f}" for part in figures.shift.values())
    shared = "/".join(f"{100 * part:.0f}" for part in figures.shared.values())
    low, high = (
        "/".join(f"{100 * ends[end]:.2f}" for ends in figures.interval.values()) for end in (0, 1)
    )
    own = "/".join(f"{100 * error:.2f}" for error in figures.own_median.values())
    return (
        "What a perfect predictor, which knows the middle of both passes, would be off by is known "
        f"from the repeats. One pass as a whole was {shift} % slower than the other, of which it "
        "misses half either way. The rest is what a call differs by from the median of the other "
        "pass's calls of the same work, less what such a median is off itself, for which counts "
        f"that calls of a work in one pass share {shared} % of that noise's variance. This is "
        "exact for normal noise; of noise with longer tails it makes the perfect predictor up to a "
        "few percent of its error worse than it is. It is an estimate, of "
        f"{len(QUESTIONS)} questions in {len(PASSES)} passes: with 95 %, questions drawn anew, it "
        f"lies between {low} and {high} over all records, and so uncertain are the ratios below, "
        "of which one under 1 is no feat. The median of all calls of a work, the very call that it "
        f"is judged by among them, is off by {own}, and no predictor knows that."
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
        f"{taken.least_repeats} calls of each in {len(PASSES)} passes. Other work ran "
        f"on the machine, whose load was {loads} before, between and after the passes; {contended}."
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
        f"![Decode by output length, divided by N and by N - 1]({FIGURE})\n\n"
        + table_text(["output tokens", "records", "T / N, ms", "T / (N - 1), ms"], rows)
    )


def _percent(errors: tuple[float, float]) -> str:
    return "/".join(f"{100 * error:.2f}" for error in errors)


if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from benchmarks.evidence._measured_records import Perfect

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
