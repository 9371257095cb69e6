"""A Call and its Spans: one timed generate(), as it was observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pytest_vlmlatency.errors import InvalidMeasurement

WALL = "wall_ms"
CPU = "cpu_ms"
DEVICE = "device_ms"
VISION_OUTSIDE = "vision_outside"
"""The span of vision that a measured function runs around generate(): judged, and in no total."""


class Phase(StrEnum):
    """The parts of one generate(), which add up to its total together with the user's own spans."""

    VISION = "vision"
    TEXT_ENCODER = "text_encoder"
    PREFILL = "prefill"
    DECODE = "decode"
    OTHER = "other"


class Place(StrEnum):
    """Where a span lies: only a `part` counts towards the total of generate()."""

    PART = "part"
    WITHIN = "within"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One named stretch of a call: when it first began, and its time.

    A `part` has its own time only, nested spans left out: the parts add up to the total. A user's
    span inside a phase is `within`: a detail that takes nothing from the phase. A user's span
    around generate() is `outside`. `start_ms` counts from the start of generate().
    """

    name: str
    start_ms: float
    measures: Mapping[str, float]
    place: Place = Place.PART

    def __post_init__(self) -> None:
        """Refuse a span that lasted less than no time: a clock or a boundary is wrong then."""
        for name, value in self.measures.items():
            if not math.isfinite(value) or value < 0:
                raise InvalidMeasurement(
                    f"{self.name} took {value} {name}; expected a time of at least 0: "
                    f"the clock ran backwards, or a boundary fired out of order"
                )


class _PhaseTime:
    """A phase's own time in one measure; 0 when the phase did not occur."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase

    def __get__(self, call: Call, owner: type[Call]) -> float:
        return call.phase_time(self.phase, WALL)


class _PhaseCpuTime:
    """A phase's own CPU time; None where CPU time says nothing (an accelerator computes)."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase

    def __get__(self, call: Call, owner: type[Call]) -> float | None:
        return call.phase_time(self.phase, CPU) if CPU in call.total else None


CONTENDED_ABOVE = 0.05
"""The share of waiting for a core from which wall times say little about the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One timed generate(). `spans` are in start order, each of its own time only.

    Token counts are totals over the batch, padding left out, but for `n_output_tokens`, which is
    the longest row's: the loop runs as long as that row does. Where a count is unknown, it is None.
    `n_decode_steps` counts the forwards of the step module after the prompt's own. In assisted
    decoding each forward, the prompt's first, verifies a draft of `drafted_lengths` tokens and
    gives `accepted_lengths`: those that matched, and one more; None elsewhere.
    """

    total: Mapping[str, float]
    outside: Mapping[str, float]
    spans: tuple[Span, ...]
    n_output_tokens: int
    n_decode_steps: int
    n_generated_tokens: int | None
    n_vision_tokens: int | None
    n_text_tokens: int | None
    batch_size: int
    n_vision_calls: int
    started_ms: float = 0.0
    peak_memory_bytes: int | None = None
    contended_ratio: float | None = None
    n_flushes_before: int = 0
    decode_step_times_ms: tuple[float, ...] | None = None
    drafted_lengths: tuple[int, ...] | None = None
    accepted_lengths: tuple[int, ...] | None = None
    discarded_because: str | None = None

    vision_ms = _PhaseTime(Phase.VISION)
    text_encoder_ms = _PhaseTime(Phase.TEXT_ENCODER)
    prefill_ms = _PhaseTime(Phase.PREFILL)
    decode_ms = _PhaseTime(Phase.DECODE)
    other_ms = _PhaseTime(Phase.OTHER)
    vision_cpu_ms = _PhaseCpuTime(Phase.VISION)
    text_encoder_cpu_ms = _PhaseCpuTime(Phase.TEXT_ENCODER)
    prefill_cpu_ms = _PhaseCpuTime(Phase.PREFILL)
    decode_cpu_ms = _PhaseCpuTime(Phase.DECODE)
    other_cpu_ms = _PhaseCpuTime(Phase.OTHER)

    @property
    def mean_accepted_length(self) -> float | None:
        """Tokens per forward in assisted decoding, None elsewhere."""
        if not self.accepted_lengths:
            return None
        return sum(self.accepted_lengths) / len(self.accepted_lengths)

    def phase_time(self, phase: str, measure: str) -> float:
        """Return a phase's (or a user's span's) own time in one measure, 0 if it did not occur."""
        return sum(span.measures[measure] for span in self.spans if span.name == phase)

    @property
    def total_ms(self) -> float:
        """Wall time from generate's call to its return, devices idle at both ends."""
        return self.total[WALL]

    @property
    def total_cpu_ms(self) -> float | None:
        """CPU time of the process in the same interval, None on an accelerator."""
        return self.total.get(CPU)

    @property
    def outside_ms(self) -> float:
        """Wall time that the called function spent around generate()."""
        return self.outside[WALL]

    @property
    def ttft_ms(self) -> float:
        """Time until the prompt's logits were ready: the total without decode."""
        return self.total_ms - self.decode_ms

    @property
    def ttft_cpu_ms(self) -> float | None:
        """CPU time until the prompt's logits were ready."""
        if self.total_cpu_ms is None or self.decode_cpu_ms is None:
            return None
        return self.total_cpu_ms - self.decode_cpu_ms

    @property
    def tpot_ms(self) -> float | None:
        """Decode time per decode step, None without steps: a ratio over nothing is no 0."""
        return self.decode_ms / self.n_decode_steps if self.n_decode_steps else None

    @property
    def tpot_cpu_ms(self) -> float | None:
        """Decode CPU time per decode step."""
        if self.decode_cpu_ms is None or not self.n_decode_steps:
            return None
        return self.decode_cpu_ms / self.n_decode_steps
