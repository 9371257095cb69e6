"""The figures of the estimators on measured records, and what is claimed of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.evidence._estimator_methods import DEFAULT
from benchmarks.evidence._measured_records import PASSES
from benchmarks.evidence._record import Claim

if TYPE_CHECKING:
    from collections.abc import Sequence

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
