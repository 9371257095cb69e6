"""GateTerms: how a test asked to be judged, in its marker, on the command line or in the ini."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

ANY_DEVICE = "*"


class GateMode(StrEnum):
    """What becomes of a case's verdicts."""

    FAIL = "fail"
    REPORT = "report"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTerms:
    """The terms of one case. None leaves a value to the gate's rule.

    `target_ratios` is the change to be found by phase (0.03 is 3 %), under `ANY_DEVICE`'s "*" for
    all other phases. `budgets_ms` bounds a median by quantity ("ttft", "decode", ...) and device
    name ("*" for any). `mode` REPORT is a quarantine: judged and shown, and not failing; `why` and
    `until` (a date) say the reason and the end of it.
    """

    target_ratios: Mapping[str, float] = field(default_factory=dict)
    budgets_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    alpha: float | None = None
    min_effect_ratio: float | None = None
    mode: GateMode = GateMode.FAIL
    why: str | None = None
    until: str | None = None

    def is_past(self, today: date) -> bool:
        """Whether the quarantine should have ended before `today`."""
        return self.until is not None and date.fromisoformat(self.until) < today
