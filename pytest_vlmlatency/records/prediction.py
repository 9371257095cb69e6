"""A Prediction: what an estimator expected of a case before it was measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Where the measured median lies beside the interval between the two quantiles."""

    WITHIN = "within"
    SLOWER = "slower"
    FASTER = "faster"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Vision, prefill and decode together, in ms: predicted as quantiles, and the measured median.

    `measure` says which kind of time both are of. The times are None where nothing could be
    predicted, and `refused_because` says why. `outside` names each amount that lies outside of what
    the estimator was trained on, and `notes` what else a reader must know to believe the numbers.
    """

    estimator: str
    measure: str
    p5_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    measured_ms: float | None = None
    standing: Standing = Standing.NOT_JUDGED
    outside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused_because: str = ""

    @property
    def is_off(self) -> bool:
        """Whether the case is off by more than the interval."""
        return self.standing in (Standing.SLOWER, Standing.FASTER)
