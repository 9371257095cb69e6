"""GateTerms: how a test asked to be judged, in its marker, on the command line or in the ini."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from pytest_vlmlatency.errors import UsageProblem

ANY_DEVICE = "*"
ANY_PHASE = "*"

TARGET_RATIO = 0.03
"""The change that must not be missed where a test names none (see `gate.rule`)."""

MOST_EFFECT_SHARE = 0.8
"""The least effect must be less than this share of the target: else a change of the target itself,
measured a little too small, would be neither slower nor the same."""


class GateMode(StrEnum):
    """What becomes of a case's verdicts."""

    FAIL = "fail"
    REPORT = "report"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTerms:
    """The terms of one case. None leaves a value to the gate's rule.

    `target_ratios` is the change to be found by phase (0.03 is 3 %), under `ANY_PHASE`'s "*" for
    all other phases. `budgets_ms` bounds a median by quantity ("ttft", "decode", ...) and device
    name (`ANY_DEVICE`'s "*" for any). `mode` REPORT is a quarantine: judged and shown, and not
    failing; `why` and `until` (its last day) say the reason and the end of it.
    """

    target_ratios: Mapping[str, float] = field(default_factory=dict)
    budgets_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    alpha: float | None = None
    min_effect_ratio: float | None = None
    mode: GateMode = GateMode.FAIL
    why: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        """Refuse terms that no verdict could honour, and a quarantine without reason or end."""
        for phase, ratio in self.target_ratios.items():
            if not _LEAST_TARGET <= ratio < 1:
                raise UsageProblem(
                    f"the target of {phase!r} is {ratio:g}; expected a change as a ratio between 0 "
                    f"and 1, where 0.03 is 3 %, of at least {_LEAST_TARGET:g}"
                )
        for quantity, budgets in self.budgets_ms.items():
            for device, budget_ms in budgets.items():
                if not 0 < budget_ms < float("inf"):
                    raise UsageProblem(
                        f"the budget of {quantity!r} on {device!r} is {budget_ms:g} ms; expected "
                        f"more than 0 ms"
                    )
        if self.alpha is not None and not 0 < self.alpha <= _LARGEST_ALPHA:
            raise UsageProblem(
                f"alpha is {self.alpha:g}; expected the share of false alarms for one comparison, "
                f"above 0 and at most {_LARGEST_ALPHA:g}"
            )
        if self.min_effect_ratio is not None and not 0 <= self.min_effect_ratio < 1:
            raise UsageProblem(
                f"min_effect is {self.min_effect_ratio:g}; expected a change as a ratio from 0 to "
                f"1, where 0.01 is 1 %"
            )
        self._check_quarantine()

    def target_ratio(self, phase: str) -> float | None:
        """Return the target of a phase, None where it is left to the gate's rule."""
        return self.target_ratios.get(phase, self.target_ratios.get(ANY_PHASE))

    def is_past(self, today: date) -> bool:
        """Whether the quarantine should have ended before `today`."""
        return self.until is not None and date.fromisoformat(self.until) < today

    def _check_quarantine(self) -> None:
        if self.until is not None:
            try:
                date.fromisoformat(self.until)
            except ValueError:
                raise UsageProblem(
                    f"until is {self.until!r}; expected a date such as '2026-12-31'"
                ) from None
        if self.mode is GateMode.REPORT and not (self.why and self.until):
            raise UsageProblem(
                "gate='report' is a quarantine: it needs why='...', the reason, and "
                "until='2026-12-31', its last day, so that it ends"
            )


_LEAST_TARGET = 1e-6  # the pairs that it takes grow with the square of 1 / target
_LARGEST_ALPHA = 0.1  # a verdict that is false every tenth time is none
