"""The nouns: a Span of a Call, the Calls of a Case, the Cases of a Run.

Raw observations are stored; whatever can be computed from them is a property. Nothing here reads
a clock, a model or a file. `plain` turns these records into JSON and back.

All times are milliseconds. Every span holds the same measures as its call: `wall_ms` always,
`cpu_ms` (CPU time of the process) where the host computes, `device_ms` where an accelerator does.
A further measure (energy, FLOPs) is one more key, and a further phase one more span.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from pytest_vlmlatency.errors import InvalidMeasurement, OverBound, UsageProblem

SCHEMA_VERSION = 1

WALL = "wall_ms"
CPU = "cpu_ms"
DEVICE = "device_ms"

Scalar = str | int | float | bool | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One timed generate(). `spans` are in start order, each of its own time only.

    Token counts are totals over the batch, padding left out, but for `n_output_tokens`, which is
    the longest row's: the loop runs as long as that row does. `n_decode_steps` counts the
    forwards of the step module after the prompt's own.
    """

    total: Mapping[str, float]
    outside: Mapping[str, float]
    spans: tuple[Span, ...]
    n_output_tokens: int
    n_decode_steps: int
    n_generated_tokens: int
    n_vision_tokens: int
    n_text_tokens: int
    batch_size: int
    n_vision_calls: int
    started_ms: float = 0.0
    peak_memory_bytes: int | None = None
    contended_ratio: float | None = None
    n_flushes_before: int = 0
    decode_step_times_ms: tuple[float, ...] | None = None
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


BOUNDABLE = (
    *(f"{phase}_{unit}" for phase in Phase for unit in ("ms", "cpu_ms")),
    *(f"{name}_{unit}" for name in ("total", "ttft", "tpot") for unit in ("ms", "cpu_ms")),
    "outside_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a round did, so that rounds and runs can be told to have done the same work."""

    model: str
    n_parameters: int
    dtype: str
    attention: str
    inputs: Mapping[str, str]
    generation: Mapping[str, Scalar]
    batch_size: int
    n_vision_tokens: int
    n_text_tokens: int
    n_output_tokens: int
    output_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMap:
    """Where a model's phases are. Paths are those of `model.named_modules()`, "" is the root.

    `feature_owners` are the modules that define get_image_features or get_video_features;
    `vision` are modules of a vision part that no such call covers. `experts` is the experts
    implementation of a mixture of experts by phase: generate() may switch it for decode.
    """

    step: str
    blocks: tuple[str, ...]
    feature_owners: tuple[str, ...]
    vision: tuple[str, ...]
    text_encoder: tuple[str, ...]
    vision_runs: str
    has_step_preparation: bool
    experts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What the driver said of one device at one moment; None where it does not say."""

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttle_reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing measured: a test, its parameters and its configuration, with its kept calls.

    `labels` are short words for the mode (shown in the table), `notes` are sentences on what a
    reader should know before believing the numbers. `n_threads` is torch's thread count then.
    """

    id: str
    name: str
    device: str
    workload: Workload | None
    phase_map: PhaseMap | None
    calls: tuple[Call, ...]
    discarded: tuple[Call, ...] = ()
    test: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Scalar] | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    stop_reason: str = ""
    is_measured: bool = True
    n_threads: int | None = None
    device_before: tuple[DeviceState, ...] = ()
    device_after: tuple[DeviceState, ...] = ()
    worker: str | None = None

    @property
    def gating_measure(self) -> str:
        """The measure to judge by: CPU time where the host computes, wall time elsewhere."""
        return CPU if self.calls and CPU in self.calls[0].total else WALL

    @property
    def contended_ratio(self) -> float | None:
        """The median share of wall time in which this thread waited for a core."""
        shares = [call.contended_ratio for call in self.calls if call.contended_ratio is not None]
        return median(shares) if shares else None

    @property
    def throttle_reasons(self) -> tuple[str, ...]:
        """Why the driver slowed a device down, before or after the case."""
        states = (*self.device_before, *self.device_after)
        return tuple(sorted({reason for state in states for reason in state.throttle_reasons}))

    def median_of(self, name: str) -> float | None:
        """Return the median over calls of a property such as `decode_ms`, None if undefined."""
        values = [getattr(call, name) for call in self.calls]
        defined = [float(value) for value in values if value is not None]
        return median(defined) if defined else None

    def check(self, **bounds_ms: float) -> Case:
        """Raise OverBound if a median exceeds its bound, e.g. `check(decode_ms=400, ttft_ms=250)`.

        Returns the case. An unmeasured case (`--benchmark-disable`) passes.
        """
        unknown = sorted(set(bounds_ms) - set(BOUNDABLE))
        if unknown:
            raise UsageProblem(
                f"check() does not know {', '.join(unknown)}; it takes {', '.join(BOUNDABLE)}"
            )
        if self.is_measured:
            problems = [self._problem(name, bound) for name, bound in bounds_ms.items()]
            if any(problems):
                raise OverBound("\n".join(problem for problem in problems if problem))
        return self

    def _problem(self, name: str, bound_ms: float) -> str | None:
        if not bound_ms > 0:
            raise UsageProblem(f"check({name}={bound_ms}): expected a bound above 0 ms")
        value_ms = self.median_of(name)
        if value_ms is None:
            return f"{self.name}: {name} is undefined here, so its bound of {bound_ms:g} ms fails"
        if value_ms > bound_ms:
            return (
                f"{self.name}: median {name} is {value_ms:.2f} ms over {len(self.calls)} rounds, "
                f"above the bound of {bound_ms:g} ms"
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The commit that was measured. `is_dirty`: tracked files differ from it."""

    id: str
    branch: str | None
    is_dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and software of a run. No host names, URLs, arguments or variables."""

    machine: Mapping[str, Scalar]
    versions: Mapping[str, str]
    settings: Mapping[str, Scalar]
    devices: tuple[Mapping[str, Scalar], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one pytest run measured. `lost` names tests whose cases never arrived."""

    started_at: str
    environment: Environment
    commit: Commit | None
    cases: tuple[Case, ...]
    lost: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
