"""Runs with noise that is drawn from a seed, and histories of them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.store import Index, StoredRuns
from pytest_vlmlatency.records import Commit, Environment, Run, RunRounds, run_rounds_of
from tests.cases import a_call, a_case

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import Call, Case

PHASES_MS = {"vision_ms": 40.0, "prefill_ms": 25.0, "decode_ms": 90.0, "other_ms": 0.5}
BETWEEN_RUNS, WITHIN_A_RUN = 0.003, 0.006
N_ROUNDS = 20
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)

ENVIRONMENT = Environment(
    machine={"cpu": "A processor", "architecture": "x86_64", "n_cores": 2},
    versions={"python": "CPython 3.11.7", "torch": "2.13.0", "pytest": "9.2.0"},
    settings={"n_allowed_cores": 2, "n_threads": 1},
    devices=(),
)


def commit_id(number: int) -> str:
    """Return the id of the n-th commit."""
    return f"{number:040x}"


def noisy_calls(
    seed: int, *, slower: Mapping[str, float] | None = None, n_rounds: int = N_ROUNDS
) -> list[Call]:
    """Return the calls of one run, its phases slower by these shares: {"decode_ms": 0.05}."""
    noise = random.Random(seed)
    level = {name: noise.gauss(1.0, BETWEEN_RUNS) for name in PHASES_MS}
    slower = slower or {}
    return [
        a_call(
            vision_ms=times["vision_ms"],
            prefill_ms=times["prefill_ms"],
            decode_ms=times["decode_ms"],
            other_ms=times["other_ms"],
            cpu_share=None,
        )
        for times in (
            {
                name: ms * level[name] * (1 + slower.get(name, 0)) * noise.gauss(1, WITHIN_A_RUN)
                for name, ms in PHASES_MS.items()
            }
            for _ in range(n_rounds)
        )
    ]


def a_noisy_case(
    seed: int,
    *,
    slower: Mapping[str, float] | None = None,
    n_rounds: int = N_ROUNDS,
    **fields: object,
) -> Case:
    """Return a case of such calls."""
    return a_case(noisy_calls(seed, slower=slower, n_rounds=n_rounds), **fields)  # type: ignore[arg-type]  # a case's fields, by name


def a_run(
    number: int,
    cases: Sequence[Case],
    *,
    commit: int | None = None,
    is_dirty: bool = False,
    **fields: object,
) -> Run:
    """Return the n-th run, of the n-th commit unless another one is given."""
    at = commit_id(number if commit is None else commit)
    run = Run(
        id=f"{number:016x}",
        started_at=(BEGIN + timedelta(hours=number)).isoformat(),
        environment=ENVIRONMENT,
        commit=Commit(id=at, branch="main", is_dirty=is_dirty),
        cases=tuple(cases),
    )
    return replace(run, **fields)  # type: ignore[arg-type]  # the fields of Run, by name


def a_history(n_runs: int = 10) -> list[Run]:
    """Return runs 1 to n of one case, all alike."""
    return [a_run(number, [a_noisy_case(number)]) for number in range(1, n_runs + 1)]


class RunsInMemory:
    """A history that holds runs in memory."""

    url = "memory"

    def __init__(self, runs: Sequence[Run], *, problems: Sequence[str] = ()) -> None:
        self.runs = {name_of(run): run for run in runs}
        self.problems = tuple(problems)

    def index(self) -> Index:
        return Index(names=tuple(sorted(self.runs)), problems=self.problems)

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        return StoredRuns(runs=tuple(_rounds(self.runs[name]) for name in names))


def _rounds(run: Run) -> RunRounds:
    return run_rounds_of(run)
