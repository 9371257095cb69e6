"""Values of runs in ms, and which part of a call a change of its total is in. Pure.

The parts of a call add up to its total, and so do these shares: they are means over the same
rounds, the fastest half by their total, which is the half that a run's value is made of.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import TOTAL, VISION_OUTSIDE
from pytest_vlmlatency.stats import GateRule, RunValue, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.records import Rounds


def value_ms(runs: Sequence[Sequence[float]], rule: GateRule) -> float | None:
    """Return the value of runs as the gate makes it, in ms; None where none has a value."""
    values = [value_of(rounds, rule) for rounds in runs]
    logs = [value.log_ms for value in values if isinstance(value, RunValue)]
    return math.exp(fmean(logs)) if logs else None


def shares_ms(before: Sequence[Rounds], after: Sequence[Rounds]) -> dict[str, float]:
    """Return the change of each part in ms, `other` included; {} where a side has no run."""
    if not before or not after:
        return {}
    old, new = _mean_parts(before), _mean_parts(after)
    names = dict.fromkeys((*new, *old))
    return {name: new.get(name, 0.0) - old.get(name, 0.0) for name in names}


def _mean_parts(runs: Sequence[Rounds]) -> dict[str, float]:
    parts = [_parts_ms(rounds.times_ms) for rounds in runs]
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: fmean(one.get(name, 0.0) for one in parts) for name in names}


def _parts_ms(times_ms: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each part's mean over the fastest half of a run's rounds, by their total."""
    totals = times_ms[TOTAL]
    n_fastest = math.ceil(len(totals) * GateRule().fastest_share)
    fastest = sorted(range(len(totals)), key=lambda index: totals[index])[:n_fastest]
    return {
        name: fmean(values[index] for index in fastest)
        for name, values in times_ms.items()
        if name not in (TOTAL, VISION_OUTSIDE)
    }
