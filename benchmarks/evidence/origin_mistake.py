"""A mistake side by side: decode by subtraction of separate runs against decode in one flow.

The first way times vision alone, then a prompt's forward alone (hooks on its first and last block),
then a whole generate(), each the mean over runs of its own, and calls what is left decode. The
second way is the engine's: one generate(), all phases. Both ways take turns on the same model, the
same photograph, the same thread, with as many runs behind each value.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import fmean

import torch

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import counted, interquartile_range, table
from benchmarks.evidence._subjects import (
    Workload,
    bare_time,
    next_call,
    warm_subject,
    watched_machine,
)
from pytest_vlmlatency.calls.clock import HostClock, Stamp
from pytest_vlmlatency.machine.allocator import FlushWatch
from pytest_vlmlatency.measure.isolation import no_garbage_collection
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import LoadedModel, load_model
from pytest_vlmlatency.records import CPU, WALL, Call, Phase

NAME = "origin_mistake"
SEED = 0
MODEL = "dummy:molmoe-tiny"
PHOTOGRAPH = "coffee"
N_TOKENS = (2, 4, 8, 16)
N_TRIALS = 16
N_RUNS = 3
"""Runs behind each value, of vision, of the prompt and of the whole; and of one flow."""

Times = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get decode: a value for each trial, in ms, before anything is clamped."""

    decode_ms: tuple[float, ...]

    @property
    def impossible_ratio(self) -> float:
        """The share of values that cannot be: no time at all, or less, for tokens that came out."""
        return sum(value <= 0 for value in self.decode_ms) / len(self.decode_ms)

    @property
    def spread_ms(self) -> float:
        """The interquartile range."""
        return interquartile_range(self.decode_ms)

    @property
    def median_ms(self) -> float:
        """The median."""
        return statistics.median(self.decode_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Both ways for one number of output tokens, in one measure."""

    n_tokens: int
    measure: str
    subtracted: Way
    one_flow: Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All numbers of tokens, on one model and photograph."""

    model: str
    photograph: str
    n_runs: int
    rows: tuple[Row, ...]


def main() -> int:
    """Measure both ways and publish how often each gives what cannot be."""
    started_at = now()
    loaded = load_model(MODEL)
    with watched_machine() as watch:
        rows = [row for n_tokens in N_TOKENS for row in measure_rows(loaded, n_tokens, watch)]
        environment = read_machine()
    figures = Figures(model=MODEL, photograph=PHOTOGRAPH, n_runs=N_RUNS, rows=tuple(rows))
    return publish_figures(
        NAME, figures, judge, describe, seed=SEED, started_at=started_at, environment=environment
    )


def measure_rows(loaded: LoadedModel, n_tokens: int, watch: FlushWatch) -> list[Row]:
    """Return a row for each measure, from trials in which the two ways take turns."""
    start_s = time.perf_counter()
    generate: Callable[..., object] = loaded.model.generate
    inputs = loaded.prepare(photograph(PHOTOGRAPH), "What is in the picture?")
    workload = Workload(
        name=MODEL, generate=generate, kwargs={**inputs, "max_new_tokens": n_tokens}
    )
    subject = warm_subject(workload, watch, rounds=N_TRIALS * N_RUNS)
    separate = SeparateRuns(loaded, inputs, workload)
    separate.decode_ms()
    ways = (separate.decode_ms, lambda: mean_of(lambda: _decode_ms(next_call(subject))))
    values: tuple[list[Times], list[Times]] = ([], [])
    for trial in counted(N_TRIALS, f"{n_tokens} tokens"):
        for way in (0, 1) if trial % 2 == 0 else (1, 0):
            values[way].append(ways[way]())
    say(f"{n_tokens} tokens: {N_TRIALS} trials in {time.perf_counter() - start_s:.0f} s")
    return [
        Row(
            n_tokens=n_tokens,
            measure=measure,
            subtracted=Way(decode_ms=tuple(times[measure] for times in values[0])),
            one_flow=Way(decode_ms=tuple(times[measure] for times in values[1])),
        )
        for measure in (CPU, WALL)
    ]


class SeparateRuns:
    """Decode as what is left of a whole run after vision and prompt of other runs."""

    def __init__(
        self, loaded: LoadedModel, inputs: Mapping[str, torch.Tensor], workload: Workload
    ) -> None:
        self._model = loaded.model.model
        self._inputs = inputs
        self._workload = workload
        self._pixels = {key: inputs[key] for key in ("pixel_values", "crop_grids")}

    def decode_ms(self) -> Times:
        """Return total - vision - prompt by measure, as it comes out: nothing is clamped."""
        vision = mean_of(lambda: bare_time(self._run_vision))
        prompt = mean_of(self._prompt_ms)
        total = mean_of(lambda: bare_time(self._workload.run))
        return {measure: total[measure] - vision[measure] - prompt[measure] for measure in total}

    @torch.no_grad()
    def _run_vision(self) -> None:
        self._model.get_image_features(**self._pixels)

    @torch.no_grad()
    def _prompt_ms(self) -> Times:
        """Return the time from the first block's start to the last one's end, in a forward."""
        clock = HostClock()
        stamps: list[Stamp] = []
        blocks = self._model.language_model.layers
        with ExitStack() as undo, no_garbage_collection():
            first = blocks[0].register_forward_pre_hook(lambda *_: stamps.append(_now(clock)))
            last = blocks[-1].register_forward_hook(lambda *_: stamps.append(_now(clock)))
            undo.callback(first.remove)
            undo.callback(last.remove)
            self._model(**self._inputs)
        return clock.measures(stamps[0], stamps[1])


def mean_of(timed: Callable[[], Times]) -> Times:
    """Return the mean of `N_RUNS` runs, by measure."""
    runs = [timed() for _ in range(N_RUNS)]
    return {measure: fmean(run[measure] for run in runs) for measure in (CPU, WALL)}


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the two ways, and whether it held."""
    rows = figures.rows
    impossible = [row for row in rows if row.one_flow.impossible_ratio]
    by_subtraction = max(row.subtracted.impossible_ratio for row in rows)
    fewest = [row for row in rows if row.n_tokens == min(N_TOKENS)]
    return (
        Claim(
            text="One flow never gives an impossible decode time.",
            holds=not impossible,
            seen=f"{'; '.join(map(_told, impossible)) or 'none'}; by subtraction up to "
            f"{by_subtraction:.0%}.",
        ),
        Claim(
            text=f"Where decode is short, at {min(N_TOKENS)} tokens, one flow spreads less.",
            holds=all(row.one_flow.spread_ms < row.subtracted.spread_ms for row in fewest),
            seen=f"{'; '.join(map(_told, fewest))}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row for each number of tokens and measure."""
    figures = evidence.figures
    headers = ["tokens", "measure", "impossible: subtracted", "one flow"]
    headers += ["IQR ms: subtracted", "one flow", "median ms: subtracted", "one flow"]
    rows = [
        [
            str(row.n_tokens),
            row.measure.removesuffix("_ms"),
            f"{row.subtracted.impossible_ratio:.0%}",
            f"{row.one_flow.impossible_ratio:.0%}",
            f"{row.subtracted.spread_ms:.2f}",
            f"{row.one_flow.spread_ms:.2f}",
            f"{row.subtracted.median_ms:.2f}",
            f"{row.one_flow.median_ms:.2f}",
        ]
        for row in figures.rows
    ]
    n_trials = len(figures.rows[0].one_flow.decode_ms)
    return (
        f"Decode time of {figures.model} on the photograph {figures.photograph!r}, {n_trials} "
        f"trials of each way in turn, each value the mean of {figures.n_runs} runs. 'Impossible' "
        f"is 0 or less, which the first way stored as 0.\n\n{table(headers, rows)}"
    )


def _told(row: Row) -> str:
    return (
        f"{row.n_tokens} tokens, {row.measure}: {row.one_flow.impossible_ratio:.0%} impossible, "
        f"IQR {row.one_flow.spread_ms:.2f} against {row.subtracted.spread_ms:.2f} ms"
    )


def _decode_ms(call: Call) -> Times:
    return {measure: call.phase_time(Phase.DECODE, measure) for measure in (CPU, WALL)}


def _now(clock: HostClock) -> Stamp:
    return clock.stamp(wait=True)


if __name__ == "__main__":
    sys.exit(main())
