"""The figures of the estimators on measured records, as Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.evidence._estimator_methods import DEFAULT
from benchmarks.evidence._measured_records import MODEL, PASSES, QUESTIONS
from benchmarks.evidence._table import table as table_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.evidence._measured_figures import Figures, Length, Taken
    from benchmarks.evidence._record import Evidence

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
