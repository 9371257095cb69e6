"""A Case: one thing measured, the work it did, where its phases are, and its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from pytest_vlmlatency.errors import OverBound, UsageProblem
from pytest_vlmlatency.records.call import CPU, WALL, Call, Phase
from pytest_vlmlatency.records.gate_terms import GateTerms
from pytest_vlmlatency.records.prediction import Prediction

Scalar = str | int | float | bool | None

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
    n_vision_tokens: int | None
    n_text_tokens: int | None
    n_output_tokens: int
    output_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMap:
    """Where a model's phases are. Paths are those of `model.named_modules()`, "" is the root.

    `feature_owners` are the modules that define get_image_features or get_video_features;
    `vision` are modules of a vision part that no such call covers. `experts` is the experts
    implementation of a mixture of experts by phase: generate() may switch it for decode.
    `vision_calls` counts how often each entry into vision ran for the prompt, `prompt_end` is the
    module that ends it. `is_vision_named`: by the user, not found; he may have
    named methods, `vision_methods`, whose paths end in their names. `entry` is the module whose
    call shows that the blocks begin: the first block, or the compiled region around it.
    `compiled` are the modules (or feature methods) that torch.compile had compiled as a whole.
    `cache` is the kind of cache that steps were given, "" where that was not seen.
    `is_step_named`: by the user. `n_start_tokens` at the beginning of the output were given by no
    forward; `is_fed`: each step was given one token of the output, in order, and `n_ahead` were
    given tokens beyond it.
    `attends_across`: blocks are given vision beside the prompt's positions, not among them.
    """

    step: str
    blocks: tuple[str, ...]
    feature_owners: tuple[str, ...]
    vision: tuple[str, ...]
    text_encoder: tuple[str, ...]
    vision_runs: str
    has_step_preparation: bool
    prompt_end: str
    vision_calls: Mapping[str, int]
    is_vision_named: bool = False
    vision_methods: tuple[str, ...] = ()
    entry: str | None = None
    compiled: tuple[str, ...] = ()
    experts: Mapping[str, str] = field(default_factory=dict)
    cache: str = ""
    is_step_named: bool = False
    n_start_tokens: int = 0
    is_fed: bool = False
    n_ahead: int = 0
    attends_across: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """How the phases of a case were found: watched in a call of its own, or remembered.

    `inputs` is the kind of the call in words, `time_ms` the wall time of finding them, which is in
    no phase. `not_kept_because` says why no later case can be spared the watching, "" if it can.
    """

    model: str
    inputs: str
    time_ms: float
    is_remembered: bool
    not_kept_because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What the driver said of one device at one moment; None where it does not say.

    `n_other_processes` counts those that have a context on the device beside this run's own.
    """

    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttle_reasons: tuple[str, ...]
    n_other_processes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing measured: a test, its parameters and its configuration, with its kept calls.

    `labels` are short words for the mode (shown in the table), `notes` are sentences on what a
    reader should know before believing the numbers. `n_threads` is torch's thread count then.
    `terms` say how the case is to be judged, `prediction` what an estimator expected of it.
    `former_id` is the id under which runs of earlier versions hold it, None where it is the same.
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
    discovery: Discovery | None = None
    terms: GateTerms = field(default_factory=GateTerms)
    prediction: Prediction | None = None
    former_id: str | None = None

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

    @property
    def n_other_processes(self) -> int | None:
        """The most processes of others on a device, before or after; None where nobody says."""
        states = (*self.device_before, *self.device_after)
        known = [state.n_other_processes for state in states if state.n_other_processes is not None]
        return max(known, default=None)

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
