"""A Judgement: what one comparison of round times came to, and what it rests on.

Made by `gate`, which alone knows the statistics; every report shows these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a comparison came to. Too little data is its own answer, and never passes for same."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One phase of one case, the candidate against its baseline.

    `change_ratio` is candidate over baseline, 1.0 is unchanged, `low_ratio` and `high_ratio` are
    the ends of its interval; None where nothing can be said. `n_pairs` counts fresh pairs of
    processes, 0 where the verdict rests on the history alone, `n_runs` the runs of the history.
    """

    verdict: Verdict
    reason: str
    change_ratio: float | None = None
    low_ratio: float | None = None
    high_ratio: float | None = None
    n_pairs: int = 0
    n_runs: int = 0
