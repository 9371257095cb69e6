"""GateRule: every constant of a judgement, why it has that value, and where it comes from.

Owns the numbers and what they may be. What is done with them is in the modules that take a rule.

Words: a *round* is one timed call, a *run* one process's rounds of one case, a *pair* two fresh
processes, one of each checkout. A *change* is a ratio less one: 0.03 is 3 % slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.records import MOST_EFFECT_SHARE, TARGET_RATIO

LOOKS = (3, 5, 8, 12, 18, 27)
LOOKS_GROW = 1.5
"""From each look to the next there are about half as many pairs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRule:
    """How a comparison is judged. `target_ratio` and `min_effect_ratio` are changes: 0.03 is 3 %.

    `target_ratio`: the change that must not be missed. 3 % is what a between-run noise of 1 % lets
    a job of a few pairs find in 95 of 100 cases; one run a side could not find 5 %.

    `min_effect_ratio`: no change below it is called slower or faster, however certain it is. A
    third of the target: another memory layout of the same code moves a latency by as much
    (Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", 2009).

    `alpha`: the chance that an unchanged comparison is called slower, over all looks together (and
    as much again: faster); by the history alone, where no pairs can be had, the same. One in
    10,000, so that 100 CI runs of 100 comparisons fail once at most. `screen_alpha`: a change as
    unlikely as this is suspicious even where the target is ruled out.

    `looks`: after how many pairs it is decided whether to measure on. Each has a share of `alpha`
    in proportion to its pairs (Bonferroni): right whatever stops the measuring, and hard to meet
    where a coincidence of two throttled processes would do. 27 pairs, so that a change of 5 % is
    seen on a machine of 2 % noise; most comparisons that get so far need 5 to 12.

    `confidence`: of the interval that is shown with a change, whatever stopped the measuring: its
    risk is divided by the number of looks. "Same" is the statement that this interval lies within
    the target on both sides, so that one set of data rules out both directions and what is shown
    never contradicts the verdict: the two one-sided tests of Schuirmann, "A comparison of the two
    one-sided tests procedure and the power approach", J. Pharmacokinetics and Biopharmaceutics 15
    (1987). The screen's exclusion of a direction does not count for fresh pairs: runs of another
    hour, with a noise that was estimated from few, dismissed 1 in 4 changes of 5 % that way.

    `n_warmup_rounds`: dropped at the start of every run, beside what measuring itself dropped:
    caches and clocks settle later than compilation. `fastest_share` of the rest makes the value.
    `min_rounds`: fewer have no spread to speak of. `min_runs`: fewer don't say how much runs
    differ, so nothing is slower, faster or the same by the history alone, and no interval is shown.

    `fallback_noise_ratio`, `fallback_df`: the noise between runs where too few comparisons tell of
    it, and how many degrees of freedom that is worth: 1 % is what quiet hosts show (between 0.3 %
    and 2 %), and 4 lets five runs outvote it. `max_prior_df`: however alike the comparisons of one
    pytest run are, they shared a machine and a day. `pairs_prior_df`: what the screen's noise is
    worth once fresh pairs are there: nothing where it was assumed, or where the pairs show more. A
    noise that is too small lends pairs a certainty that they don't have: with 1 % assumed and 8 %
    between processes, 1 in 60 unchanged comparisons was called slower or faster.
    `min_noise_ratio`: no latency repeats better than this.

    `clip_sigmas`: differences of pairs beyond it count as if at it. 1.5 keeps 96 % of a mean's
    efficiency where noise is normal (Huber 1964), and where processes are throttled it took power
    from 2 in 3 to more than 9 in 10. `shared_risk`: the level at which pairs are taken to share
    noise, an hour or a node; otherwise both sides tell how much processes differ.
    """

    target_ratio: float = TARGET_RATIO
    min_effect_ratio: float = TARGET_RATIO / 3
    alpha: float = 1e-4
    screen_alpha: float = 1e-3
    looks: tuple[int, ...] = LOOKS
    n_warmup_rounds: int = 2
    fastest_share: float = 0.5
    min_rounds: int = 3
    min_runs: int = 3
    fallback_noise_ratio: float = 0.01
    fallback_df: float = 4.0
    max_prior_df: float = 20.0
    pairs_prior_df: float = 4.0
    clip_sigmas: float = 1.5
    shared_risk: float = 0.01
    min_noise_ratio: float = 1e-4
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in _SHARES:
            _check(self, name, f"more than 0 and less than {_SHARES[name]:g}", _SHARES[name])
        for name in ("fallback_df", "max_prior_df", "pairs_prior_df", "clip_sigmas"):
            _check(self, name, "more than 0 and finite", math.inf)
        for name, least in (("n_warmup_rounds", 0), ("min_rounds", 2), ("min_runs", 2)):
            _check_count(self, name, least)
        _check_looks(self.looks)
        if not self.min_effect_ratio < MOST_EFFECT_SHARE * self.target_ratio:
            raise UsageProblem(
                f"min_effect_ratio is {self.min_effect_ratio:g}; expected less than "
                f"{MOST_EFFECT_SHARE:g} of target_ratio, which is {self.target_ratio:g}: a change "
                f"that is too small to be slower must not be too large to be the same. Lower "
                f"min_effect_ratio, or raise target_ratio"
            )

    @classmethod
    def for_target(cls, target_ratio: float, *, alpha: float = 1e-4) -> Self:
        """Return the rule for another target, of the same error rates.

        The smallest change to be named goes with the target. Pairs needed grow with the square of
        noise over target, so a target below 3 % gets looks beyond 27 pairs; a larger one keeps
        the looks and is decided at the earlier ones.
        """
        if not 0 < target_ratio < 1:
            raise UsageProblem(
                f"the target is {target_ratio!r}; expected a change of more than 0 and less than "
                f"1, such as 0.03 for 3 %"
            )
        return cls(
            target_ratio=target_ratio,
            min_effect_ratio=target_ratio / 3,
            alpha=alpha,
            looks=_looks_for(target_ratio),
        )

    def look_alpha(self, n_pairs: int) -> float:
        """Return the share of `alpha` that a look at this many pairs may spend.

        In proportion to the pairs of the look that is due with them.
        """
        due = next((look for look in self.looks if look >= n_pairs), self.looks[-1])
        return self.alpha * due / sum(self.looks)


_SHARES = {
    "target_ratio": 1.0,
    "min_effect_ratio": 1.0,
    "alpha": 0.5,
    "screen_alpha": 0.5,
    "shared_risk": 0.5,
    "fastest_share": 1.0,
    "fallback_noise_ratio": 1.0,
    "min_noise_ratio": 1.0,
    "confidence": 1.0,
}
"""What lies between 0 and this."""


def _check(rule: GateRule, name: str, expected: str, upper: float) -> None:
    value = getattr(rule, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < upper:
        raise UsageProblem(f"{name} of a gate's rule is {value!r}; expected a number, {expected}")


def _check_count(rule: GateRule, name: str, least: int) -> None:
    value = getattr(rule, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageProblem(
            f"{name} of a gate's rule is {value!r}; expected a whole number, {least} or more"
        )


def _check_looks(looks: tuple[int, ...]) -> None:
    grow = all(before < after for before, after in pairwise(looks))
    if not looks or not grow or looks[0] < LOOKS[0]:
        raise UsageProblem(
            f"looks of a gate's rule are {looks!r}; expected numbers of pairs, growing, from "
            f"{LOOKS[0]} on, such as {LOOKS}"
        )


def _looks_for(target_ratio: float) -> tuple[int, ...]:
    """Return the looks; the last has the pairs that the square law asks for, 27 at least."""
    n_pairs = math.ceil(LOOKS[-1] * (TARGET_RATIO / target_ratio) ** 2)
    if n_pairs <= LOOKS[-1]:
        return LOOKS
    growth = n_pairs / LOOKS[-1]
    n_more = max(1, round(math.log(growth, LOOKS_GROW)))
    more = (round(LOOKS[-1] * growth ** (k / n_more)) for k in range(1, n_more + 1))
    return tuple(dict.fromkeys((*LOOKS, *more)))
