"""Known delays come back in the right phase: busy-waits of CPU time in a model's own parts.

One part at a time is slowed down: the vision tower, the last decoder block for the prompt, the same
block for each decode step. Every round with a delay has one without in the same turn; the order
of a turn is a palindrome, so that a machine which drifts does so for all alike, and no undelayed
round follows another one. The engine makes the rounds and judges them.

A wait is not idle. While a thread merely spins, its caches cool, and what runs next takes longer
afterwards: a true slowdown, but not the one that was put in. So a twin of the model, with the
same weights, generates while the time passes, and only the rest is spun away.
"""

import copy
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

import torch

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    command_of,
    now,
    publish,
    read_machine,
    say,
)
from benchmarks.evidence._table import table
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.clock import NS_PER_MS
from pytest_vlmlatency.measure.pinning import pinned_threads
from pytest_vlmlatency.measure.run import measure_interleaved
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import CPU, Call, Phase, Scalar
from tests.zoo import Specimen, block_modules, build, vision_module

NAME = "delays"
SEED = 0
MODELS = (
    "llava",
    "qwen2_vl",
    "qwen3_vl",
    "smolvlm",
    "idefics3",
    "mllama",
    "paligemma",
    "gemma3",
    "internvl",
    "blip-2",
    "molmo2",
    "florence2",
    "git",
)
N_TURNS = 20
N_TOKENS = 4
N_STEPS = N_TOKENS - 1
TOLERANCE_RATIO = 0.01
TOLERANCE_MS = 0.3
N_REHEARSALS = 9
MARGIN = 1.3
"""How much longer than its median a rehearsal may take before a wait overshoots."""


class Part(StrEnum):
    """What is slowed down."""

    NOTHING = "off"
    VISION = "vision"
    PREFILL = "prefill"
    DECODE = "decode"


SLOWED = (Part.VISION, Part.PREFILL, Part.DECODE)
HALF = (Part.VISION, Part.NOTHING, Part.PREFILL, Part.DECODE)
TURN = (*HALF, *reversed(HALF))
DELAY_MS: Mapping[str, float] = {Part.VISION: 60.0, Part.PREFILL: 40.0, Part.DECODE: 20.0}
"""Of one run of the part: for decode, of each step."""
PUT_IN_MS: Mapping[str, float] = {**DELAY_MS, Part.DECODE: DELAY_MS[Part.DECODE] * N_STEPS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One delay in one model: by how much each phase's median CPU time changed, in ms."""

    model: str
    part: str
    put_in_ms: float
    changes_ms: Mapping[str, float]

    @property
    def tolerance_ms(self) -> float:
        """How far off any phase may be."""
        return TOLERANCE_RATIO * self.put_in_ms + TOLERANCE_MS

    @property
    def seen_ms(self) -> float:
        """The delay as its own phase shows it."""
        return self.changes_ms[self.part]

    @property
    def leak(self) -> tuple[str, float]:
        """The other phase that changed most, and by how much."""
        others = {name: ms for name, ms in self.changes_ms.items() if name != self.part}
        return max(others.items(), key=lambda item: abs(item[1]))

    @property
    def is_back(self) -> bool:
        """Whether the delay is seen in its phase."""
        return abs(self.seen_ms - self.put_in_ms) <= self.tolerance_ms

    @property
    def stays(self) -> bool:
        """Whether no other phase shows any of it."""
        return abs(self.leak[1]) <= self.tolerance_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model: its delays, and the control: undelayed rounds of each turn's second half
    against those of its first."""

    model: str
    undelayed_ms: Mapping[str, float]
    control_ms: Mapping[str, float]
    rows: tuple[Row, ...]
    n_rounds: int
    n_discarded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All models; `n_turns` rounds with each delay, twice in a turn."""

    n_turns: int
    models: tuple[ModelFigures, ...]


class Waiter:
    """Uses up CPU time of the calling thread, and keeps the caches as the model leaves them."""

    def __init__(self, specimen: Specimen) -> None:
        shared = {id(weights): weights for weights in specimen.model.parameters()}
        twin = copy.deepcopy(specimen.model, shared)
        generate: Callable[..., object] = twin.generate  # type: ignore[assignment]  # a method
        self._rehearse = functools.partial(generate, **specimen.inputs, max_new_tokens=2)
        times_ns = [_thread_time_of(self._rehearse) for _ in range(N_REHEARSALS)]
        self._at_most_ns = round(median(times_ns) * MARGIN)

    def wait(self, ms: float) -> None:
        """Return once this thread has used so much CPU time."""
        end_ns = time.thread_time_ns() + round(ms * NS_PER_MS)
        while end_ns - time.thread_time_ns() > 2 * self._at_most_ns:
            self._rehearse()
        if end_ns - time.thread_time_ns() > self._at_most_ns:
            _spin_until(end_ns - self._at_most_ns)
            self._rehearse()
        _spin_until(end_ns)


class Slowed:
    """A module's forward with a wait before it, for the runs that belong to one part."""

    def __init__(self, forward: Callable[..., object], part: Part, waiter: Waiter) -> None:
        functools.update_wrapper(self, forward)
        self.part = part
        self._forward = forward
        self._waiter = waiter
        self._n_runs = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Wait if it is this run's turn, then run: the first run is the prompt's."""
        is_prompt = self._n_runs == 0
        self._n_runs += 1
        if is_prompt == (self.part is not Part.DECODE):
            self._waiter.wait(DELAY_MS[self.part])
        return self._forward(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay as a configuration: the engine applies it before a call and undoes it after."""

    specimen: Specimen
    waiter: Waiter
    part: Part

    def values(self) -> dict[str, Scalar]:
        """Return what is slowed down."""
        return {"slow": str(self.part)}

    @contextmanager
    def apply(self, model: object) -> Iterator[None]:
        """Slow the part down inside the context."""
        if self.part is Part.NOTHING:
            yield
            return
        module = _module(self.specimen, self.part)
        vars(module)["forward"] = Slowed(module.forward, self.part, self.waiter)
        try:
            yield
        finally:
            del vars(module)["forward"]

    def read_back(self, model: object) -> dict[str, Scalar]:
        """Return what is slowed down now, read from the modules that will run."""
        modules = [_module(self.specimen, part) for part in (Part.VISION, Part.PREFILL)]
        forwards = [vars(module).get("forward") for module in modules]
        found = [str(forward.part) for forward in forwards if isinstance(forward, Slowed)]
        return {"slow": " and ".join(found) or str(Part.NOTHING)}


def main() -> int:
    """Measure every model and publish what came back."""
    started_at = now()
    figures = Figures(n_turns=N_TURNS, models=tuple(measure_model(name) for name in MODELS))
    with pinned_threads(1):
        environment = read_machine()
    return publish(
        Evidence[Figures](
            name=NAME,
            command=command_of(NAME),
            seed=SEED,
            started_at=started_at,
            environment=environment,
            claims=judge(figures),
            figures=figures,
        ),
        describe,
    )


def measure_model(name: str) -> ModelFigures:
    """Measure one model with each delay and without, in turn."""
    specimen = build(name, seed=SEED)
    start_s = time.perf_counter()
    with pinned_threads(1):
        waiter = Waiter(specimen)
    measured = measure_interleaved(
        specimen.generate,
        kwargs={**specimen.inputs, "max_new_tokens": N_TOKENS},
        configs=[Delay(specimen, waiter, part) for part in TURN],
        options=Options(rounds=N_TURNS),
        identity=Identity(id=name, name=name),
    )
    calls = [one.case.calls for one in measured]
    first, last = calls[HALF.index(Part.NOTHING)], calls[-1 - HALF.index(Part.NOTHING)]
    figures = ModelFigures(
        model=name,
        undelayed_ms=_medians_ms([*first, *last]),
        control_ms=_changes_ms(last, first),
        rows=tuple(_row(name, part, calls) for part in SLOWED),
        n_rounds=sum(map(len, calls)),
        n_discarded=sum(len(one.case.discarded) for one in measured),
    )
    verdicts = ["pass" if row.is_back and row.stays else "FAIL" for row in figures.rows]
    say(f"{name}: {', '.join(verdicts)} in {time.perf_counter() - start_s:.0f} s")
    return figures


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the delays, and whether it held."""
    rows = [row for model in figures.models for row in model.rows]
    lost = [_told(row, row.part, row.seen_ms) for row in rows if not row.is_back]
    leaked = [_told(row, *row.leak) for row in rows if not row.stays]
    worst = max(abs(row.seen_ms - row.put_in_ms) for row in rows)
    worst_leak = max(abs(row.leak[1]) for row in rows)
    return (
        Claim(
            text=f"Each delay comes back in its own phase within {TOLERANCE_RATIO:.0%} of it and "
            f"{TOLERANCE_MS} ms.",
            holds=not lost,
            seen=f"{'; '.join(lost) or 'all'}, {len(rows)} in all, the worst {worst:.3f} ms off.",
        ),
        Claim(
            text="No other phase changes by more than that.",
            holds=not leaked,
            seen=f"{'; '.join(leaked) or 'none'}; the largest change {worst_leak:.3f} ms.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row a model, for each delay what was seen and what leaked."""
    figures = evidence.figures
    headers = ["model"]
    for part in SLOWED:
        headers += [f"{part} +{PUT_IN_MS[part]:g}", "leaked"]
    rows = [_cells(model) for model in figures.models]
    n_discarded = sum(model.n_discarded for model in figures.models)
    n_rounds = sum(model.n_rounds for model in figures.models)
    control_ms = max(abs(ms) for model in figures.models for ms in model.control_ms.values())
    return (
        f"Differences of medians of CPU time in ms, {2 * figures.n_turns} rounds with each delay "
        f"and {2 * figures.n_turns} without, in turn; the decode delay is "
        f"{DELAY_MS[Part.DECODE]:g} ms in each of {N_STEPS} steps. 'leaked' is the largest change "
        f"of any other phase. Control, undelayed rounds against undelayed ones: at most "
        f"{control_ms:.3f} ms in any phase. {n_rounds} rounds kept, {n_discarded} discarded.\n\n"
        + table([*headers, "verdict"], rows)
    )


def _cells(model: ModelFigures) -> list[str]:
    cells = [model.model]
    for row in model.rows:
        phase, leak_ms = row.leak
        cells += [f"{row.seen_ms:.2f}", f"{leak_ms:+.2f} {phase}"]
    holds = all(row.is_back and row.stays for row in model.rows)
    return [*cells, "pass" if holds else "FAIL"]


def _row(name: str, part: Part, calls: Sequence[Sequence[Call]]) -> Row:
    return Row(
        model=name,
        part=str(part),
        put_in_ms=PUT_IN_MS[part],
        changes_ms=_changes_ms(_calls_of(part, calls), _calls_of(Part.NOTHING, calls)),
    )


def _calls_of(part: Part, calls: Sequence[Sequence[Call]]) -> list[Call]:
    return [call for own, those in zip(TURN, calls, strict=True) if own is part for call in those]


def _medians_ms(calls: Sequence[Call]) -> dict[str, float]:
    return {str(phase): median(call.phase_time(phase, CPU) for call in calls) for phase in Phase}


def _changes_ms(calls: Sequence[Call], without: Sequence[Call]) -> dict[str, float]:
    before_ms = _medians_ms(without)
    return {phase: ms - before_ms[phase] for phase, ms in _medians_ms(calls).items()}


def _told(row: Row, phase: str, ms: float) -> str:
    return f"{row.model}: of {row.put_in_ms:g} ms in {row.part}, {phase} shows {ms:.3f} ms"


def _thread_time_of(function: Callable[[], object]) -> int:
    start_ns = time.thread_time_ns()
    function()
    return time.thread_time_ns() - start_ns


def _spin_until(end_ns: int) -> None:
    while time.thread_time_ns() < end_ns:
        pass


def _module(specimen: Specimen, part: Part) -> torch.nn.Module:
    return vision_module(specimen) if part is Part.VISION else block_modules(specimen)[-1]


if __name__ == "__main__":
    sys.exit(main())
