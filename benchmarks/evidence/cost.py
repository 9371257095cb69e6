"""What measuring costs: generate() with our boundaries attached against the same call bare.

Wrapped rounds are the engine's own, with everything it does around and inside a call; bare calls
are timed by the same clock with nothing attached. Two kinds of bare calls are told apart by name
only: their ratio is the control, what this machine calls different today. The four kinds take turns
in an order drawn anew for each block, and run backwards in its second half, so drift cancels.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import Interval, counted, median_interval, table
from benchmarks.evidence._subjects import (
    Workload,
    bare_time,
    next_call,
    warm_subject,
    watched_machine,
)
from pytest_vlmlatency.calls.workload import read_inputs
from pytest_vlmlatency.discovery.override import Named
from pytest_vlmlatency.discovery.watch import watch_call
from pytest_vlmlatency.machine.allocator import FlushWatch
from pytest_vlmlatency.measure.subject import Subject
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import load_model
from pytest_vlmlatency.records import CPU, WALL
from tests.zoo import build

NAME = "cost"
SEED = 0
ALLOWED_RATIO = 0.005
"""How far from 1 wrapped over bare may be, unless the control is as far."""
US_PER_MS = 1000


class Kind(StrEnum):
    """How a call is made."""

    BARE = "bare"
    BARE_AGAIN = "bare again"
    WRAPPED = "wrapped"
    PER_TOKEN = "per token"


COMPARED = (Kind.WRAPPED, Kind.PER_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A model, how many tokens it generates, and in how many blocks of eight calls.

    One that is not judged is shown for the fixed cost of a call, which nothing else is as short as.
    """

    model: str
    n_tokens: int
    n_blocks: int
    is_judged: bool = True


PLANS = (
    Plan(model="llava", n_tokens=8, n_blocks=200, is_judged=False),
    Plan(model="llava", n_tokens=32, n_blocks=300),
    Plan(model="dummy:molmoe-nano", n_tokens=8, n_blocks=160),
    Plan(model="dummy:molmoe-tiny", n_tokens=8, n_blocks=120),
)
"""The first two are of the test suite's zoo: launches and hardly any arithmetic, where a hook costs
most. 8 tokens take it 13 ms, shorter than any real call. The others see a photograph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One kind against bare, a value for each block: the median with its 95 % interval."""

    kind: str
    measure: str
    ratio: Interval
    difference_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """One model. `traced_ratio` is that of the watched call, which finds the phases.

    `around_ms` is what a round takes beyond its generate(): reading arguments, judging, collecting
    garbage; it is in no measured time.
    """

    model: str
    n_tokens: int
    n_blocks: int
    bare_ms: Mapping[str, float]
    ratios: tuple[Ratio, ...]
    traced_ratio: float
    around_ms: float
    n_discarded: int
    is_judged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All models."""

    models: tuple[ModelFigures, ...]


def main() -> int:
    """Measure every model and publish what measuring costs."""
    started_at = now()
    with watched_machine() as watch:
        figures = Figures(models=tuple(measure_model(plan, watch) for plan in PLANS))
        environment = read_machine()
    return publish_figures(
        NAME, figures, judge, describe, seed=SEED, started_at=started_at, environment=environment
    )


def measure_model(plan: Plan, watch: FlushWatch) -> ModelFigures:
    """Call one model bare, wrapped and per token, in turn."""
    start_s = time.perf_counter()
    workload = load_workload(plan)
    n_rounds = 2 * plan.n_blocks
    wrapped = warm_subject(workload, watch, rounds=n_rounds)
    per_token = warm_subject(workload, watch, rounds=n_rounds, per_token=True)
    turns: Mapping[Kind, Callable[[], Mapping[str, float]]] = {
        Kind.BARE: lambda: bare_time(workload.run),
        Kind.BARE_AGAIN: lambda: bare_time(workload.run),
        Kind.WRAPPED: lambda: next_call(wrapped).total,
        Kind.PER_TOKEN: lambda: next_call(per_token).total,
    }
    blocks = run_blocks(turns, plan.n_blocks)
    kinds = (Kind.BARE_AGAIN, *COMPARED)
    bare_ms = {measure: median(_column(blocks, Kind.BARE, measure)) for measure in (CPU, WALL)}
    figures = ModelFigures(
        model=plan.model,
        n_tokens=plan.n_tokens,
        n_blocks=plan.n_blocks,
        bare_ms=bare_ms,
        ratios=tuple(ratio_of(blocks, kind, measure) for measure in (CPU, WALL) for kind in kinds),
        traced_ratio=traced_ms(workload) / bare_ms[CPU],
        around_ms=around_ms(wrapped),
        n_discarded=len(wrapped.discarded) + len(per_token.discarded),
        is_judged=plan.is_judged,
    )
    say(f"{plan.model}: {8 * plan.n_blocks} calls in {time.perf_counter() - start_s:.0f} s")
    return figures


def load_workload(plan: Plan) -> Workload:
    """Return the model of a plan with its inputs."""
    if not plan.model.startswith("dummy:"):
        specimen = build(plan.model, seed=SEED)
        kwargs = {**specimen.inputs, "max_new_tokens": plan.n_tokens}
        return Workload(name=plan.model, generate=specimen.generate, kwargs=kwargs)
    loaded = load_model(plan.model)
    inputs = loaded.prepare(photograph("coffee"), "What is in the picture?")
    generate: Callable[..., object] = loaded.model.generate
    kwargs = {**inputs, "max_new_tokens": plan.n_tokens}
    return Workload(name=plan.model, generate=generate, kwargs=kwargs)


def run_blocks(
    turns: Mapping[Kind, Callable[[], Mapping[str, float]]], n_blocks: int
) -> list[dict[Kind, dict[str, float]]]:
    """Return for each block the mean time of each kind's two calls, by measure."""
    order_of = random.Random(SEED)
    blocks = []
    for _ in counted(n_blocks, "blocks"):
        order = list(turns)
        order_of.shuffle(order)
        times = [(kind, turns[kind]()) for kind in (*order, *reversed(order))]
        blocks.append(
            {
                kind: {
                    measure: sum(own[measure] for made, own in times if made is kind) / 2
                    for measure in (CPU, WALL)
                }
                for kind in order
            }
        )
    return blocks


def ratio_of(
    blocks: Sequence[Mapping[Kind, Mapping[str, float]]], kind: Kind, measure: str
) -> Ratio:
    """Return one kind against bare, block by block."""
    own, bare = _column(blocks, kind, measure), _column(blocks, Kind.BARE, measure)
    pairs = list(zip(own, bare, strict=True))
    return Ratio(
        kind=str(kind),
        measure=measure,
        ratio=median_interval([one / other for one, other in pairs]),
        difference_ms=median(one - other for one, other in pairs),
    )


def traced_ms(workload: Workload, *, n_calls: int = 6) -> float:
    """Return the CPU time of the call in which the phases are found, finding them included."""
    target: Callable[..., object] = workload.generate
    model = target.__self__  # type: ignore[attr-defined]  # a bound method

    def traced() -> None:
        inputs = read_inputs(target, model, (), workload.kwargs)
        watch_call(target, (), workload.kwargs, model, inputs, named=Named())

    return median(bare_time(traced)[CPU] for _ in range(n_calls))


def around_ms(subject: Subject, *, n_calls: int = 10) -> float:
    """Return the CPU time that a round takes beyond its generate()."""
    return median(_around_ms(subject) for _ in range(n_calls))


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the cost, and whether it held."""
    claims = []
    for kind in COMPARED:
        ratios = [
            (model, ratio, control_of(model, ratio.measure))
            for model in figures.models
            for ratio in model.ratios
            if ratio.kind == kind and model.is_judged
        ]
        over = [
            f"{model.model} {ratio.ratio.middle:.4f} of {ratio.measure}, control "
            f"{control.low:.4f} to {control.high:.4f}"
            for model, ratio, control in ratios
            if not is_free(ratio.ratio, control)
        ]
        worst = max((ratio.ratio.middle for _, ratio, _ in ratios), key=lambda x: abs(x - 1))
        claims.append(
            Claim(
                text=f"{str(kind).capitalize()} over bare is within {ALLOWED_RATIO:.1%} of 1, or "
                f"inside the control's interval, in calls of 40 ms or more.",
                holds=not over,
                seen=f"{'; '.join(over) or 'all'}; the furthest from 1 is {worst:.4f}.",
            )
        )
    return tuple(claims)


def is_free(ratio: Interval, control: Interval) -> bool:
    """Whether a ratio is 1 for all that this machine can tell."""
    return abs(ratio.middle - 1) <= ALLOWED_RATIO or control.holds(ratio.middle)


def control_of(model: ModelFigures, measure: str) -> Interval:
    """Return bare against bare."""
    found = [
        ratio.ratio
        for ratio in model.ratios
        if ratio.kind == Kind.BARE_AGAIN and ratio.measure == measure
    ]
    assert len(found) == 1, "one control for each measure"
    return found[0]


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row for each model and measure, and what else there is to pay."""
    headers = ["model, tokens", "measure", "bare ms", "bare / bare", "wrapped / bare"]
    headers += ["per token / bare", "wrapped - bare us"]
    models = evidence.figures.models
    rows = [_cells(model, measure) for model in models for measure in (CPU, WALL)]
    once = "; ".join(f"{_name(model)} {model.traced_ratio:.1f} times" for model in models)
    around = "; ".join(f"{_name(model)} {model.around_ms:.1f} ms" for model in models)
    shown = "; ".join(_name(model) for model in models if not model.is_judged)
    blocks = ", ".join(f"{model.n_blocks}" for model in models)
    return (
        f"Medians of paired ratios with 95 % intervals of order statistics, of {blocks} blocks "
        f"of two calls of each kind. Not judged, being shorter than any real call: "
        f"{shown or 'none'}.\n\n{table(headers, rows)}\n\n"
        f"A watched call of three tokens finds the phases of a case, and is never timed; in CPU "
        f"time it takes, of a bare call: {once}. Each round takes more CPU time "
        f"outside its generate(), which is in no figure of a case: {around}."
    )


def _cells(model: ModelFigures, measure: str) -> list[str]:
    own = {ratio.kind: ratio for ratio in model.ratios if ratio.measure == measure}
    return [
        _name(model),
        measure.removesuffix("_ms"),
        f"{model.bare_ms[measure]:.2f}",
        *(_interval(own[kind].ratio) for kind in (Kind.BARE_AGAIN, *COMPARED)),
        f"{own[Kind.WRAPPED].difference_ms * US_PER_MS:+.0f}",
    ]


def _name(model: ModelFigures) -> str:
    return f"{model.model}, {model.n_tokens}"


def _interval(interval: Interval) -> str:
    return f"{interval.middle:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _column(
    blocks: Sequence[Mapping[Kind, Mapping[str, float]]], kind: Kind, measure: str
) -> list[float]:
    return [block[kind][measure] for block in blocks]


def _around_ms(subject: Subject) -> float:
    total_ms = 0.0

    def one_round() -> None:
        nonlocal total_ms
        total_ms = next_call(subject).total[CPU]

    return bare_time(one_round)[CPU] - total_ms


if __name__ == "__main__":
    sys.exit(main())
