"""The whole way from a model to a configuration that keeps its 95th percentile, several times.

Each trial is `python -m benchmarks.end_to_end` in a process of its own, on the CPU's clock: it
measures, trains, chooses under a budget, and measures its choice again. Budgets differ, so that
small and large configurations are chosen. It takes minutes.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.end_to_end import Outcome, go, parser
from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import table
from pytest_vlmlatency.machine.cpu import pinned_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "end_to_end_real"
BUDGETS_MS = (50, 65, 80, 100, 130, 160)
MEASURE = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One budget for a request, and what came of its choice; None where nothing fits."""

    budget_ms: float
    outcome: Outcome | None

    @property
    def is_kept(self) -> bool:
        """Whether there is a choice, and it kept its 95th percentile."""
        return self.outcome is not None and self.outcome.is_kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All trials."""

    trials: tuple[Trial, ...]


def main() -> int:
    """Go the way for each budget, and publish."""
    started_at = now()
    with pinned_threads(1):
        environment = read_machine()
    trials = []
    for budget_ms in BUDGETS_MS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            trials.append(fresh.submit(try_once, budget_ms).result())
        say(f"{budget_ms} ms: {trials[-1].outcome}")
    return publish_figures(
        NAME,
        Figures(trials=tuple(trials)),
        judge,
        describe,
        seed=0,
        started_at=started_at,
        environment=environment,
    )


def try_once(budget_ms: float) -> Trial:
    """Go the whole way with one budget."""
    given = parser().parse_args(["--budget", f"{budget_ms:g}", "--measure", MEASURE])
    with TemporaryDirectory() as folder:
        return Trial(budget_ms=budget_ms, outcome=go(given, Path(folder)))


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the choices, and whether it held."""
    n_kept = sum(trial.is_kept for trial in figures.trials)
    outcomes = [trial.outcome for trial in figures.trials if trial.outcome is not None]
    n_within = sum(outcome.n_within for outcome in outcomes)
    n_calls = sum(outcome.n_calls for outcome in outcomes)
    return (
        Claim(
            text="The choice, measured again, is within its predicted 95th percentile, for every "
            "budget.",
            holds=n_kept == len(figures.trials),
            seen=f"{n_kept} of {len(figures.trials)}; {n_within} of {n_calls} calls within their "
            f"own.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table, a row a budget."""
    rows = [[f"{trial.budget_ms:g}", *_cells(trial.outcome)] for trial in evidence.figures.trials]
    return (
        "Milliseconds of CPU time of a request of 8 output tokens: the budget, what was predicted "
        "of the choice, and the median of its calls when it was measured again.\n\n"
        + table(["budget", "choice", "P50", "P95", "measured", "calls within their P95"], rows)
    )


def _cells(outcome: Outcome | None) -> Sequence[str]:
    if outcome is None:
        return ("none fits", "", "", "", "")
    return (
        " ".join(f"{name}={value}" for name, value in outcome.config.items()),
        f"{outcome.p50_ms:.1f}",
        f"{outcome.p95_ms:.1f}",
        f"{outcome.measured_ms:.1f}",
        f"{outcome.n_within} of {outcome.n_calls}",
    )


if __name__ == "__main__":
    sys.exit(main())
