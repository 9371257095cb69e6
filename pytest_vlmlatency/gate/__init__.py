"""From a candidate's run to a GateReport: baseline, comparability, screen, confirmation.

    gate          one verdict on a run: history and repository in, report out
     ├ repository     git: where HEAD left the baseline's branch, and the commits before
     ├ pins           the runs that were accepted, one file for each machine
     ├ baseline       which stored runs to compare with
     └ flow           from the question to the report, every step in `answer`
         ├ comparability  what must be the same; other differences are named
         ├ comparisons    phases of cases, each with its history, its rule and its noise
         ├ confirming     looks at fresh pairs for all that is undecided
         └ verdicts       cases as they are reported: budgets, shares, notes

    compare, ab, trend: the same of stored runs, of two commits now, over many commits

`repository` asks git and `pins` reads and writes files; `gate` wires them. The rest is pure.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.stats import (
        ChangePoint,
        GateRule,
        Judgement,
        Noise,
        Pair,
        RunValue,
        Suspicion,
        TrendRule,
        Unusable,
        Verdict,
        detect_change_points,
        judge,
        look,
        pool_noise,
        screen,
        value_of,
    )

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


def __getattr__(name: str) -> object:
    """Import a public name of `stats` on first use: commands start without scipy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("pytest_vlmlatency.stats"), name)
