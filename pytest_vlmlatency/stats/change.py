"""A change of one version against another: its size, its interval, and what it shows. Pure.

Verdict, interval and reason come from the same numbers, so none of them can contradict another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.stats.noise import p_above, t_quantile
from pytest_vlmlatency.records import Judgement, Verdict

if TYPE_CHECKING:
    from pytest_vlmlatency.stats.rule import GateRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A difference of logs, candidate less baseline, with its standard error.

    `n_looks`: how many looks share the risk of the interval. `evidence`: what it rests on, such as
    "5 fresh pairs".
    """

    log: float
    error: float
    df: float
    rule: GateRule
    evidence: str
    n_looks: int = 1

    @property
    def towards(self) -> Verdict:
        """The direction of the change."""
        return Verdict.SLOWER if self.log > 0 else Verdict.FASTER

    @property
    def p(self) -> float:
        """The chance of a change as large in its direction where there is none."""
        return p_above(abs(self.log) / self.error, self.df)

    @property
    def room(self) -> float:
        """Half the width of the interval."""
        return t_quantile(self.df, (1 - self.rule.confidence) / 2 / self.n_looks) * self.error

    @property
    def is_within_target(self) -> bool:
        """Whether the interval rules out a change of the target in both directions.

        As a ratio, either way round: 1.03 and 1 / 1.03 for 3 %, so that swapped sides agree.
        """
        return abs(self.log) + self.room < math.log1p(self.rule.target_ratio)

    def is_certain(self, alpha: float) -> bool:
        """Whether it is larger than the least effect, and unlikely enough to be chance."""
        return self.p < alpha and self.is_large

    @property
    def is_large(self) -> bool:
        """Whether it is more than the least effect that is called slower or faster."""
        return abs(self.log) > math.log1p(self.rule.min_effect_ratio)

    @property
    def same_because(self) -> str:
        """Why this is the same, where it is within the target."""
        return f"a change of {self.rule.target_ratio:.1%} is ruled out by {self.evidence}"

    def undecided_because(self, alpha: float) -> str:
        """Return why this is neither slower, faster nor the same; `alpha`: what a change takes."""
        target = f"{self.rule.target_ratio:.1%}"
        if abs(self.log) <= self.room:
            return f"{self.evidence} neither rule out a change of {target} nor show one"
        if not self.is_large:
            least = f"{self.rule.min_effect_ratio:.1%}"
            return (
                f"{self.evidence} show no more than the {least} that {self.towards} takes, and do "
                f"not rule out a change of {target}"
            )
        return (
            f"probably {self.towards} by {self.evidence}: p {self.p:.1g}, and {self.towards} takes "
            f"less than {alpha:.1g}"
        )

    def judgement(
        self, verdict: Verdict, reason: str, *, n_pairs: int = 0, n_runs: int = 0, has_noise: bool
    ) -> Judgement:
        """Return the judgement of this change; no interval where its noise is only assumed."""
        return Judgement(
            verdict=verdict,
            reason=reason,
            change_ratio=math.exp(self.log),
            low_ratio=math.exp(self.log - self.room) if has_noise else None,
            high_ratio=math.exp(self.log + self.room) if has_noise else None,
            n_pairs=n_pairs,
            n_runs=n_runs,
        )
