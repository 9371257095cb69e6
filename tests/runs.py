"""Builders of runs with boring values, so that a test says only what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import Commit, Environment, Run
from tests.cases import a_call, a_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.records import Case, Scalar

COMMIT = "3f" * 20


def an_environment(
    *, cpu: str = "A processor", n_threads: int = 1, devices: Sequence[Mapping[str, Scalar]] = ()
) -> Environment:
    return Environment(
        machine={"cpu": cpu, "architecture": "x86_64", "n_cores": 2, "memory_bytes": 2**34},
        versions={"torch": "2.13.0", "transformers": "5.23.0"},
        settings={"n_threads": n_threads, "n_allowed_cores": 2},
        devices=tuple(devices),
    )


def a_run(
    number: int = 1,
    *,
    cases: Sequence[Case] | None = None,
    commit: str | None = COMMIT,
    branch: str | None = "main",
    is_dirty: bool = False,
    environment: Environment | None = None,
    **fields: object,
) -> Run:
    """Return a run of a case; a later number is a later run, with an id of its own."""
    run = Run(
        id=f"{number:016x}",
        started_at=f"2026-11-20T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}+00:00",
        environment=environment or an_environment(),
        commit=None if commit is None else Commit(id=commit, branch=branch, is_dirty=is_dirty),
        cases=tuple(cases) if cases is not None else (a_case([a_call(), a_call()]),),
    )
    return replace(run, **fields)  # type: ignore[arg-type]  # the fields of Run, by name
