"""What measuring adds to torch.compile's work: no compilation, and no graph that runs uncompiled.

Each way to compile a part of a model, or to let generate() do it, in some families, with torch on
one thread and on two, since it compiles for a number of threads: torch's own count of compilations,
and the runs of compiled graphs, around bare calls and around a measurement.
A graph that torch gives up on, or that a hook sends back to eager, makes fewer runs.
"""

from __future__ import annotations

import itertools
import logging
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.utils import counters

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import table
from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.compilation import n_compilations, n_limits_reached
from pytest_vlmlatency.machine.cpu import pinned_threads
from tests.compiled import WAYS, Backend
from tests.zoo import Specimen, build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "compilation"
SEED = 0
FAMILIES = ("llava", "qwen2_vl", "mllama", "blip-2", "florence2")
THREADS = (1, 2)
N_ROUNDS = 2
N_BEFORE_ROUNDS = 3
"""Two unmeasured calls and a rehearsal; the watched one runs everything uncompiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way of compiling in one family, with torch on `n_threads` threads.

    `refusal` is why it was refused, `failure` why generate() fails so with nothing of ours on it.
    Compilations are torch's own count: of the first bare call, of a second one, of measuring, of
    bare calls afterwards. Runs are those of compiled graphs: in a bare call, in all `n_calls` of
    the measurement that run what is compiled (discarded rounds among them), in a bare call
    afterwards.
    """

    family: str
    way: str
    n_threads: int
    failure: str = ""
    refusal: str = ""
    labels: tuple[str, ...] = ()
    n_compiled_first: int = 0
    n_compiled_again: int = 0
    n_compiled_measuring: int = 0
    n_compiled_after: int = 0
    n_calls: int = 0
    n_runs_bare: int = 0
    n_runs_measuring: int = 0
    n_runs_after: int = 0
    n_limits: int = 0
    is_same_output: bool = True

    @property
    def is_measured(self) -> bool:
        """Whether there are numbers."""
        return not (self.failure or self.refusal)

    @property
    def is_compiled(self) -> bool:
        """Whether generate() runs anything that is compiled."""
        return self.n_runs_bare > 0

    @property
    def is_labelled_right(self) -> bool:
        """Whether the label says what ran."""
        return ("compiled" in self.labels) == self.is_compiled

    @property
    def runs_compiled(self) -> bool:
        """Whether each compiled call ran as many graphs as a bare one."""
        return self.n_runs_measuring == self.n_runs_bare * self.n_calls


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All ways in all families."""

    rows: tuple[Row, ...]


def main() -> int:
    """Measure each way in each family and publish what torch compiled meanwhile."""
    torch._logging.set_logs(all=logging.CRITICAL)  # type: ignore[attr-defined]  # not in __all__
    started_at = now()
    with pinned_threads(1):
        environment = read_machine()
    cases = itertools.product(WAYS, FAMILIES, THREADS)
    figures = Figures(rows=tuple(_row(way, family, n_threads) for way, family, n_threads in cases))
    return publish_figures(
        NAME, figures, judge, describe, seed=SEED, started_at=started_at, environment=environment
    )


def _row(way: str, family: str, n_threads: int) -> Row:
    torch.set_num_threads(n_threads)
    torch.compiler.reset()
    counters.clear()
    specimen, backend = build(family, seed=SEED), Backend()
    kwargs = specimen.inputs | WAYS[way](specimen, backend)
    named = Row(family=family, way=way, n_threads=n_threads)
    try:
        row = _compare(specimen, kwargs, backend, named)
    except BareCallFailed as problem:
        row = replace(named, failure=str(problem))
    say(f"{way}, {family}, {n_threads} threads: {_cell(row, [])}")
    return row


class BareCallFailed(Exception):
    """generate() raised with nothing of ours attached."""


class _Meter:
    """Tells what was compiled, and how many graphs ran, since it was last asked."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._seen = (n_compilations(), backend.n_runs)

    def read(self) -> tuple[int, int]:
        before, self._seen = self._seen, (n_compilations(), self._backend.n_runs)
        return self._seen[0] - before[0], self._seen[1] - before[1]


def _compare(specimen: Specimen, kwargs: Mapping[str, object], backend: Backend, named: Row) -> Row:
    meter = _Meter(backend)
    try:
        output = specimen.generate(**kwargs)
    except Exception as problem:  # whatever torch or transformers cannot do
        raise BareCallFailed(f"{type(problem).__name__}: {_first_line(problem)}") from problem
    n_compiled_first, _ = meter.read()
    specimen.generate(**kwargs)
    n_compiled_again, n_runs_bare = meter.read()
    measured = _measure(specimen, kwargs)
    n_compiled_measuring, n_runs_measuring = meter.read()
    after = specimen.generate(**kwargs)
    n_compiled_after, n_runs_after = meter.read()
    return replace(
        named,
        **measured,
        n_compiled_first=n_compiled_first,
        n_compiled_again=n_compiled_again,
        n_compiled_measuring=n_compiled_measuring,
        n_compiled_after=n_compiled_after,
        n_runs_bare=n_runs_bare,
        n_runs_measuring=n_runs_measuring,
        n_runs_after=n_runs_after,
        n_limits=n_limits_reached(),
        is_same_output=torch.equal(output, after),
    )


def _measure(specimen: Specimen, kwargs: Mapping[str, object]) -> dict[str, Any]:
    """Return a row's fields: why the call was refused, or the labels of its case and its calls."""
    try:
        case = measure_generate(specimen.generate, kwargs=kwargs, rounds=N_ROUNDS)
    except InvalidMeasurement as problem:
        return {"refusal": str(problem)}
    n_calls = N_BEFORE_ROUNDS + len(case.calls) + len(case.discarded)
    return {"labels": case.labels, "n_calls": n_calls}


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of compilation, and whether it held."""
    rows = [row for row in figures.rows if not row.failure]
    measured = [row for row in rows if row.is_measured]
    compiled = [row for row in measured if row.is_compiled]
    return (
        _claim(
            "Measuring compiles nothing, refused or not, and nor does a bare call after it.",
            [row for row in rows if row.n_compiled_measuring or row.n_compiled_after],
            f"none in {len(rows)}",
        ),
        _claim(
            "Each compiled call of a measurement, and a bare call after it, runs as many compiled "
            "graphs as a bare call before: none falls back to eager.",
            [row for row in measured if not row.runs_compiled]
            + [row for row in rows if row.n_runs_after != row.n_runs_bare],
            f"all {sum(row.n_runs_measuring for row in compiled)} runs in {len(compiled)} "
            f"measured ways",
        ),
        _claim(
            "What ran compiled is labelled so, and nothing else.",
            [row for row in measured if not row.is_labelled_right],
            f"{len(compiled)} labelled, {len(measured) - len(compiled)} not",
        ),
        _claim(
            "Torch reached its recompile limit nowhere, and the output stayed the same.",
            [row for row in rows if row.n_limits or not row.is_same_output],
            f"all {len(rows)}",
        ),
    )


def _claim(text: str, failing: Sequence[Row], seen: str) -> Claim:
    told = "; ".join(f"{row.way} of {row.family}: {row}" for row in failing)
    return Claim(text=text, holds=not failing, seen=f"{told or seen}.")


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table, a row a way, with the reasons for what was not measured below it."""
    rows = evidence.figures.rows
    reasons: list[str] = []
    families = tuple(dict.fromkeys(row.family for row in rows))
    ways = dict.fromkeys(row.way for row in rows)
    cells = [[way, *(_cells(_of(rows, way, name), reasons) for name in families)] for way in ways]
    return (
        f"Compilations: of the first bare call + of measuring it ({N_ROUNDS} rounds) + of a bare "
        f"call afterwards; then how many compiled graphs ran in a bare call, and in each compiled "
        f"call of the measurement. The backend runs graphs as they are and counts them. 'Not "
        f"compiled': generate() never runs what was compiled. With torch on "
        f"{' and on '.join(map(str, THREADS))} threads; a cell says which where they differ.\n\n"
        + table(["compiled", *families], cells)
        + "\n\n"
        + "\n".join(f"{index}. {reason}" for index, reason in enumerate(reasons, 1))
    )


def _of(rows: Sequence[Row], way: str, family: str) -> list[Row]:
    return [row for row in rows if (row.way, row.family) == (way, family)]


def _cells(rows: Sequence[Row], reasons: list[str]) -> str:
    """Return what became of one way in one family, by number of threads where it matters."""
    cells = {row.n_threads: _cell(row, reasons) for row in rows}
    if len(set(cells.values())) == 1:
        return next(iter(cells.values()))
    return "; ".join(f"{n} threads: {cell}" for n, cell in cells.items())


def _cell(row: Row, reasons: list[str]) -> str:
    """Return what became of one way in one family; a reason gets the number of its line."""
    compiled = f"{row.n_compiled_first} + {row.n_compiled_measuring} + {row.n_compiled_after}"
    if row.is_measured and row.is_compiled:
        return f"{compiled}; {row.n_runs_bare}, {row.n_runs_measuring / row.n_calls:g}"
    if row.is_measured:
        return "not compiled"
    reason = (
        f"generate() fails by itself: {row.failure}"
        if row.failure
        else f"Refused, {compiled} compilations: {row.refusal}."
    )
    if reason not in reasons:
        reasons.append(reason)
    return f"{'fails' if row.failure else 'refused'} ({reasons.index(reason) + 1})"


def _first_line(problem: Exception) -> str:
    return str(problem).strip().partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
