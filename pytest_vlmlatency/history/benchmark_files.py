"""pytest-benchmark's own files: read as runs, and written from runs.

What such a file does not know stays unknown: a case of it has no workload, no phases and no tokens,
each round is its total alone. Its host's name is not taken over.
"""

from __future__ import annotations

import hashlib
import math
import re
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.history.benchmark import MS_PER_S, entries_of
from pytest_vlmlatency.history.checked_runs import (
    Plain,
    Unreadable,
    form_of_a_run,
    json_of,
    rounds_of_run,
)
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.plain import to_plain
from pytest_vlmlatency.records import WALL, Call, Case, Commit, Environment, Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTE = "imported from pytest-benchmark: totals only, no phases and no token counts"
UNKNOWN_DEVICE = "unknown"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def is_benchmark_file(plain: object) -> bool:
    """Whether these are the values of a file that pytest-benchmark wrote."""
    return isinstance(plain, dict) and {"machine_info", "benchmarks", "datetime"} <= plain.keys()


def run_of_file(content: bytes) -> tuple[Run, tuple[str, ...]]:
    """Return the run of a file, and the benchmarks in it that were saved without samples.

    Raises Unreadable if it has none with samples. The same content is always the same run.
    """
    plain: Any = json_of(content, has_constants=True)
    with form_of_a_run():
        kept = [bench for bench in plain["benchmarks"] if bench["stats"].get("data")]
        left_out = [bench for bench in plain["benchmarks"] if not bench["stats"].get("data")]
        run = Run(
            id=hashlib.sha256(content).hexdigest()[:16],
            started_at=_with_zone(plain["datetime"]),
            environment=_environment(plain["machine_info"], str(plain.get("version"))),
            commit=_commit(plain.get("commit_info") or {}),
            cases=tuple(_case(bench) for bench in kept),
        )
        name_of(run)
        names = tuple(str(bench["fullname"]) for bench in left_out)
    if not kept:
        raise Unreadable(
            f"none of its {len(left_out)} benchmarks has samples; save them with "
            f"--benchmark-save-data, or write the file with --benchmark-json"
        )
    rounds_of_run(to_plain(run))  # an impossible time is named now, not when it is judged
    return run, names


def file_of_run(run: Run) -> Plain:
    """Return what pytest-benchmark would have saved: an entry for each phase of each case."""
    commit = run.commit
    entries: Sequence[Any] = [entry for case in run.cases for entry in _entries(case)]
    return {
        "machine_info": _machine_info(run.environment),
        "commit_info": {
            "id": "unversioned" if commit is None else commit.id,
            "time": None,
            "author_time": None,
            "dirty": commit is not None and commit.is_dirty,
            "project": "",
            "branch": "(unknown)" if commit is None else commit.branch or "(detached head)",
        },
        "benchmarks": [entry.as_dict(include_data=True) for entry in entries],
        "datetime": run.started_at,
        "version": version("pytest-benchmark"),
    }


def _entries(case: Case) -> Sequence[object]:
    return entries_of(case) if case.is_measured and case.calls else ()


def _case(bench: Mapping[str, Any]) -> Case:
    return Case(
        id=bench["fullname"],
        name=bench["name"],
        test=bench["fullname"],
        params={name: str(value) for name, value in (bench.get("params") or {}).items()},
        device=UNKNOWN_DEVICE,
        workload=None,
        phase_map=None,
        calls=tuple(_call(time_s) for time_s in bench["stats"]["data"]),
        notes=(NOTE,),
        stop_reason="imported",
    )


def _call(time_s: object) -> Call:
    if not isinstance(time_s, int | float) or not math.isfinite(time_s):
        raise ValueError(f"a sample is {time_s!r}, not a number of seconds")
    return Call(
        total={WALL: time_s * MS_PER_S},
        outside={WALL: 0.0},
        spans=(),
        n_output_tokens=0,
        n_decode_steps=0,
        n_generated_tokens=0,
        n_vision_tokens=0,
        n_text_tokens=0,
        batch_size=1,
        n_vision_calls=0,
    )


def _environment(machine: Mapping[str, Any], benchmark_version: str) -> Environment:
    cpu = machine.get("cpu") or {}
    python = f"{machine.get('python_implementation')} {machine.get('python_version')}"
    return Environment(
        machine={
            "cpu": cpu.get("brand_raw") or cpu.get("brand"),
            "n_cores": cpu.get("count"),
            "memory_bytes": None,
            "system": machine.get("system"),
            "release": machine.get("release"),
            "architecture": machine.get("machine"),
        },
        versions={"python": python, "pytest-benchmark": benchmark_version},
        settings={},
        devices=(),
    )


def _machine_info(environment: Environment) -> Plain:
    machine = environment.machine
    implementation, _, python = environment.versions.get("python", "").partition(" ")
    return {
        "node": "",
        "processor": machine.get("architecture"),
        "machine": machine.get("architecture"),
        "python_compiler": "",
        "python_implementation": implementation,
        "python_implementation_version": python,
        "python_version": python,
        "python_build": [],
        "release": machine.get("release"),
        "system": machine.get("system"),
        "cpu": {"brand_raw": machine.get("cpu"), "count": machine.get("n_cores")},
    }


def _commit(info: Mapping[str, Any]) -> Commit | None:
    commit_id = str(info.get("id"))
    if not _COMMIT.fullmatch(commit_id):
        return None
    branch = info.get("branch")
    is_named = isinstance(branch, str) and not branch.startswith("(")
    return Commit(
        id=commit_id, branch=branch if is_named else None, is_dirty=bool(info.get("dirty"))
    )


def _with_zone(moment: str) -> str:
    """Return the time of saving; pytest-benchmark's is in UTC, and older ones don't say so."""
    parsed = datetime.fromisoformat(moment)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat()
