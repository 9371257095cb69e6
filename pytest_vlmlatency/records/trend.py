"""A Trend: level steps in the values of many runs, and between which commits they lie.

Made by `judging`, shown by `report` as text, and printed in plain form for programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_vlmlatency.records.gate_report import GateStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendPoint:
    """One run's value, as the gate's rule makes it of the rounds."""

    run: str
    started_at: str
    commit: str | None
    value_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendStep:
    """A change of level: `position` is the index of the first point behind it.

    `change_ratio` is the new level over the old one, with its interval; `before_ms` and `after_ms`
    are the levels, of `n_before` and `n_after` runs. The step lies after the commit `last_good`, at
    the latest at `first_bad`. `commits` are those between, oldest first, id and subject, the
    `first_bad` among them; () where no repository tells them.
    """

    position: int
    change_ratio: float
    low_ratio: float
    high_ratio: float
    n_before: int
    n_after: int
    before_ms: float
    after_ms: float
    last_good: str | None
    first_bad: str | None
    commits: tuple[str, ...] = ()

    @property
    def is_slower(self) -> bool:
        """Whether the new level takes longer."""
        return self.change_ratio > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendSeries:
    """One phase of one case over its runs, in their order.

    `n_left_out` runs were disturbed, did other work than the latest, or lack the phase:
    `left_out_because` counts them by cause. `reason` says why no step was looked for, "" if it was.
    """

    case_id: str
    case_name: str
    phase: str
    measure: str
    points: tuple[TrendPoint, ...]
    steps: tuple[TrendStep, ...] = ()
    n_left_out: int = 0
    left_out_because: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""

    @property
    def is_slower(self) -> bool:
        """Whether the latest step is one towards slower: an earlier one was answered since."""
        return bool(self.steps) and self.steps[-1].is_slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """All series of one machine's runs. `machine` is its fingerprint, `described` says it in words.

    `remarks` are what else a reader should know.
    """

    history: str
    machine: str
    described: str
    n_runs: int
    n_commits: int
    series: tuple[TrendSeries, ...]
    remarks: tuple[str, ...] = ()

    @property
    def status(self) -> GateStatus:
        """How the command ends: not applied if no series was looked at."""
        if any(series.is_slower for series in self.series):
            return GateStatus.SLOWER
        if all(series.reason for series in self.series):
            return GateStatus.NOT_APPLIED
        return GateStatus.PASSED
