"""Known CPU-time delays in one part of a model at a time, measured by the engine.

A thread that only spins lets its caches cool, and what runs next is slower: a true slowdown, but
not the one put in. So a twin of the model, with the same weights, generates while the delay passes,
and only the rest is spun. Every delayed round has an undelayed one in the same turn; turns are
palindromes, so that drift affects all parts alike.
"""

import copy
import functools
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
    read_machine,
    say,
)
from benchmarks.evidence._statistics import one_by_one, quiet_transformers, table
from pytest_vlmlatency.calls.clock import NS_PER_MS
from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure_interleaved
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import CPU, Call, Phase, Scalar
from tests.zoo import Specimen, block_modules, build, vision_module

N_REHEARSALS = 9
MARGIN = 1.3
"""How much longer than its median a rehearsal may take before a wait overshoots."""


class Part(StrEnum):
    """What is slowed down."""

    NOTHING = "off"
    VISION = "vision"
    PREFILL = "prefill"
    DECODE = "decode"


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

    def __init__(
        self, forward: Callable[..., object], part: Part, wait: Callable[[], None]
    ) -> None:
        functools.update_wrapper(self, forward)
        self.part = part
        self._forward = forward
        self._wait = wait
        self._n_runs = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Wait if it is this run's turn, then run: the first run is the prompt's."""
        is_prompt = self._n_runs == 0
        self._n_runs += 1
        if is_prompt == (self.part is not Part.DECODE):
            self._wait()
        return self._forward(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay of each run of one part, in ms, as a configuration that is applied and undone."""

    specimen: Specimen
    waiter: Waiter
    part: Part
    ms: float

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
        wait = functools.partial(self.waiter.wait, self.ms)
        vars(module)["forward"] = Slowed(module.forward, self.part, wait)
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


def _thread_time_of(function: Callable[[], object]) -> int:
    start_ns = time.thread_time_ns()
    function()
    return time.thread_time_ns() - start_ns


def _spin_until(end_ns: int) -> None:
    while time.thread_time_ns() < end_ns:
        pass


def _module(specimen: Specimen, part: Part) -> torch.nn.Module:
    return vision_module(specimen) if part is Part.VISION else block_modules(specimen)[-1]


SEED = 0
SLOWED = (Part.VISION, Part.PREFILL, Part.DECODE)
HALF = (Part.VISION, Part.NOTHING, Part.PREFILL, Part.DECODE)
TURN = (*HALF, *reversed(HALF))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long one run of each part is slowed down, in how many turns, and what is allowed."""

    delay_ms: Mapping[Part, float]
    n_turns: int
    tolerance_ratio: float
    tolerance_ms: float
    n_steps: int = 3

    def put_in_ms(self, part: str) -> float:
        """Return the delay of a whole call: for decode, that of all its steps."""
        delay_ms = self.delay_ms[Part(part)]
        return delay_ms * self.n_steps if part == Part.DECODE else delay_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One delay in one model: by how much each phase's median CPU time changed, in ms."""

    model: str
    part: str
    put_in_ms: float
    changes_ms: Mapping[str, float]

    def tolerance_ms(self, plan: Plan) -> float:
        """Return how far off any phase may be."""
        return plan.tolerance_ratio * self.put_in_ms + plan.tolerance_ms

    @property
    def seen_ms(self) -> float:
        """The delay as its own phase shows it."""
        return self.changes_ms[self.part]

    @property
    def leak(self) -> tuple[str, float]:
        """The other phase that changed most, and by how much."""
        others = {name: ms for name, ms in self.changes_ms.items() if name != self.part}
        return max(others.items(), key=lambda item: abs(item[1]))

    def is_back(self, plan: Plan) -> bool:
        """Whether the delay is seen in its phase."""
        return abs(self.seen_ms - self.put_in_ms) <= self.tolerance_ms(plan)

    def stays(self, plan: Plan) -> bool:
        """Whether no other phase shows any of it."""
        return abs(self.leak[1]) <= self.tolerance_ms(plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model: its delays, and the control: undelayed rounds of each turn's second half
    against those of its first. `refused` is why there is nothing to show, "" if there is."""

    model: str
    undelayed_ms: Mapping[str, float]
    control_ms: Mapping[str, float]
    rows: tuple[Row, ...]
    n_rounds: int
    n_discarded: int
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All models; `n_turns` rounds with each delay, twice in a turn."""

    n_turns: int
    models: tuple[ModelFigures, ...]


def gather(name: str, models: Sequence[str], plan: Plan) -> Evidence[Figures]:
    """Measure every model with each delay and without; return what came back, judged."""
    quiet_transformers()
    started_at = now()
    measured = tuple(measure_model(model, plan) for model in one_by_one(models))
    figures = Figures(n_turns=plan.n_turns, models=measured)
    with pinned_threads(1):
        environment = read_machine()
    return Evidence[Figures](
        name=name,
        command=command_of(name),
        seed=SEED,
        started_at=started_at,
        environment=environment,
        claims=judge(figures, plan),
        figures=figures,
    )


def measure_model(name: str, plan: Plan) -> ModelFigures:
    """Measure one model with each delay and without, in turn."""
    start_s = time.perf_counter()
    try:
        figures = _figures(name, plan)
    except VlmLatencyError as error:
        figures = ModelFigures(
            model=name,
            undelayed_ms={},
            control_ms={},
            rows=(),
            n_rounds=0,
            n_discarded=0,
            refused=str(error),
        )
    say(f"{name}: {_verdict(figures, plan)} in {time.perf_counter() - start_s:.0f} s")
    return figures


def _figures(name: str, plan: Plan) -> ModelFigures:
    specimen = build(name, seed=SEED)
    with pinned_threads(1):
        waiter = Waiter(specimen)
    measured = measure_interleaved(
        specimen.generate,
        kwargs={**specimen.inputs, "max_new_tokens": plan.n_steps + 1},
        configs=[Delay(specimen, waiter, part, plan.delay_ms.get(part, 0.0)) for part in TURN],
        options=Options(rounds=plan.n_turns),
        identity=Identity(id=name, name=name),
    )
    calls = [one.case.calls for one in measured]
    first, last = calls[HALF.index(Part.NOTHING)], calls[-1 - HALF.index(Part.NOTHING)]
    return ModelFigures(
        model=name,
        undelayed_ms=_medians_ms([*first, *last]),
        control_ms=_changes_ms(last, first),
        rows=tuple(_row(name, part, calls, plan) for part in SLOWED),
        n_rounds=sum(map(len, calls)),
        n_discarded=sum(len(one.case.discarded) for one in measured),
    )


def judge(figures: Figures, plan: Plan) -> tuple[Claim, ...]:
    """Return what is claimed of the delays, and whether it held."""
    rows = [row for model in figures.models for row in model.rows]
    refused = [f"{model.model}: {model.refused}" for model in figures.models if model.refused]
    lost = [_told(row, row.part, row.seen_ms) for row in rows if not row.is_back(plan)]
    leaked = [_told(row, *row.leak) for row in rows if not row.stays(plan)]
    worst = max((abs(row.seen_ms - row.put_in_ms) for row in rows), default=0.0)
    worst_leak = max((abs(row.leak[1]) for row in rows), default=0.0)
    return (
        Claim(
            text=f"Each delay comes back in its own phase within {plan.tolerance_ratio:.0%} of it "
            f"and {plan.tolerance_ms} ms.",
            holds=bool(rows) and not (lost or refused),
            seen=f"{'; '.join([*refused, *lost]) or 'all'}, {len(rows)} in all, the worst "
            f"{worst:.3f} ms off.",
        ),
        Claim(
            text="No other phase changes by more than that.",
            holds=bool(rows) and not leaked,
            seen=f"{'; '.join(leaked) or 'none'}; the largest change {worst_leak:.3f} ms.",
        ),
    )


def tell_rounds(figures: Figures, plan: Plan) -> str:
    """Return what the figures are, and their control."""
    n_discarded = sum(model.n_discarded for model in figures.models)
    n_rounds = sum(model.n_rounds for model in figures.models)
    steps = f"each of {plan.n_steps} steps" if plan.n_steps > 1 else "the only step"
    controls_ms = [abs(ms) for model in figures.models for ms in model.control_ms.values()]
    return (
        f"Differences of medians of CPU time in ms, {2 * figures.n_turns} rounds with each delay "
        f"and {2 * figures.n_turns} without, in turn; the decode delay is "
        f"{plan.delay_ms[Part.DECODE]:g} ms in {steps}. 'leaked' is the "
        f"largest change of any other phase. Control, undelayed rounds against undelayed ones: at "
        f"most {max(controls_ms, default=0.0):.3f} ms in any phase. {n_rounds} rounds kept, "
        f"{n_discarded} discarded."
    )


def delay_table(figures: Figures, plan: Plan) -> str:
    """Return the table: a row a model, for each delay what was seen and what leaked."""
    headers = ["model"]
    for part in SLOWED:
        headers += [f"{part} +{plan.put_in_ms(part):g}", "leaked"]
    return table([*headers, "verdict"], [_cells(model, plan) for model in figures.models])


def _cells(model: ModelFigures, plan: Plan) -> list[str]:
    cells = [model.model]
    for row in model.rows:
        phase, leak_ms = row.leak
        cells += [f"{row.seen_ms:.2f}", f"{leak_ms:+.2f} {phase}"]
    cells += [""] * (1 + 2 * len(SLOWED) - len(cells))
    return [*cells, _verdict(model, plan)]


def _verdict(model: ModelFigures, plan: Plan) -> str:
    if model.refused:
        return "REFUSED"
    holds = all(row.is_back(plan) and row.stays(plan) for row in model.rows)
    return "pass" if holds else "FAIL"


def _row(name: str, part: Part, calls: Sequence[Sequence[Call]], plan: Plan) -> Row:
    return Row(
        model=name,
        part=str(part),
        put_in_ms=plan.put_in_ms(part),
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
