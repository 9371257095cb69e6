"""What is slower: pure statistics over round times.

Owns the rule and the judgement of one comparison. It does not know which runs are comparable,
what a baseline is, or how fresh pairs are measured: those who ask bring rounds. Nothing here
reads a clock or a file, nothing is random, and nothing is kept: the same numbers always come to
the same judgement.

    judge                 a screen, then looks at fresh pairs until one decides
     ├ screen             one run against the runs of its history
     │   ├ values         a run as one number
     │   └ noise          how much runs differ, shared by all comparisons of a pytest run
     ├ sequential         looks at fresh pairs of processes
     └ change             a difference: its interval, what it shows, and that in words
    trend                 level steps in the values of many runs; series: their noise
    rule                  every constant, and why

Who measures pairs for many comparisons at once takes the steps instead of `judge`: `screen` each of
them, measure pairs up to the rule's first look for all that came back as a `Suspicion`, `look` at
each, and measure on for those that answer None.
"""

from pytest_vlmlatency.records import Judgement, Verdict
from pytest_vlmlatency.stats.change_points import (
    ChangePoint,
    TrendRule,
    detect_change_points,
)
from pytest_vlmlatency.stats.judge import Pair, judge, look
from pytest_vlmlatency.stats.noise import Noise, RunValue, Unusable, pool_noise, value_of
from pytest_vlmlatency.stats.rule import GateRule
from pytest_vlmlatency.stats.screen import Suspicion, screen

__all__ = [
    "ChangePoint",
    "GateRule",
    "Judgement",
    "Noise",
    "Pair",
    "RunValue",
    "Suspicion",
    "TrendRule",
    "Unusable",
    "Verdict",
    "detect_change_points",
    "judge",
    "look",
    "pool_noise",
    "screen",
    "value_of",
]
