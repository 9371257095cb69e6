"""Histories of made-up runs, as many as asked for, and files of pytest-benchmark as many.

A few dozen runs differ in every time; the rest repeat them under names, times and commits of their
own. Their size and form are those of measured runs: what is timed is reading, not the times.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks.evidence._statistics import counted
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import file_of, open_store
from pytest_vlmlatency.plain import to_plain
from pytest_vlmlatency.records import (
    CPU,
    DIGEST,
    WALL,
    Call,
    Case,
    Commit,
    Environment,
    Phase,
    Run,
    Scalar,
    Span,
    Workload,
    digest_of_run,
)

if TYPE_CHECKING:
    from pathlib import Path

N_DISTINCT = 25
PHASES_MS = {Phase.VISION: 50.0, Phase.PREFILL: 90.0, Phase.DECODE: 400.0, Phase.OTHER: 2.0}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
BENCHMARKS = """\
import pytest


@pytest.mark.parametrize("number", range({n_cases}))
def test_case(benchmark, number):
    benchmark.pedantic(lambda: None, rounds={n_rounds})
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """So many runs of so many cases of so many rounds."""

    n_runs: int
    n_cases: int
    n_rounds: int

    def __str__(self) -> str:
        return f"{self.n_runs:,} x {self.n_cases} x {self.n_rounds}"


def write_history(folder: Path, size: Size, seed: int, *, repository: Path | None = None) -> str:
    """Write a history of one machine, an hour between runs; return the machine's fingerprint.

    With a folder for a `repository`, one is made in it whose commits are those of the runs, and
    one more on top.
    """
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    if repository is None:
        commits = [f"{rng.getrandbits(160):040x}" for _ in range(size.n_runs)]
    else:
        commits = write_commits(repository, size.n_runs + 1)
    store = open_store(folder)
    store.check_writable()
    (folder / "runs").mkdir()
    texts = [_cases_json(size, rng) for _ in range(min(N_DISTINCT, size.n_runs))]
    distinct = [(text, json.loads(text)) for text in texts]
    fingerprint = ""
    for number in counted(size.n_runs, "writing runs"):
        run = _a_run(number, commits[number], rng)
        name = name_of(run)
        fingerprint = name.fingerprint
        cases, plain_cases = rng.choice(distinct)
        head = to_plain(run) | {"cases": None}
        head[DIGEST] = digest_of_run(head | {"cases": plain_cases})
        text = json.dumps(head).replace('"cases": null', '"cases": ' + cases)
        (folder / file_of(name)).write_text(text, encoding="utf-8")
    return fingerprint


def candidate_of(history: Path, file: Path) -> None:
    """Write a run to be judged: the newest one, measured once more, and not in the history."""
    store = open_store(history, is_readonly=True)
    newest = store.read_whole(store.index().names[-1])
    write_run(replace(newest, id="0123456789abcdef"), file)


def write_commits(repository: Path, n_commits: int) -> list[str]:
    """Make a git repository with empty commits in a row; return their ids, the oldest first."""
    git = ("git", "-C", str(repository))
    commits = "".join(
        f"commit refs/heads/main\ncommitter a <a@example.org> {1_600_000_000 + number} +0000\n"
        f"data 1\n.\n"
        for number in range(n_commits)
    )
    subprocess.run([*git, "init", "--quiet", "--initial-branch=main"], check=True)
    subprocess.run([*git, "fast-import", "--quiet"], input=commits, text=True, check=True)
    listed = [*git, "rev-list", "--reverse", "main"]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    return done.stdout.split()


def write_benchmark_files(folder: Path, size: Size) -> None:
    """Let pytest-benchmark save one run, with its samples, and copy it under its other numbers."""
    file = folder / "test_cases.py"
    file.write_text(BENCHMARKS.format(n_cases=size.n_cases, n_rounds=size.n_rounds))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    subprocess.run(
        [*command, "--benchmark-save=run", "--benchmark-save-data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (first,) = (folder / ".benchmarks").glob("*/0001_*.json")
    for number in range(2, size.n_runs + 1):
        shutil.copyfile(first, first.with_name(f"{number:04}_run.json"))


def _a_run(number: int, commit: str, rng: random.Random) -> Run:
    machine: dict[str, Scalar] = {"cpu": "A processor", "architecture": "x86_64", "n_cores": 8}
    return Run(
        id=f"{rng.getrandbits(64):016x}",
        started_at=(BEGAN + timedelta(hours=number)).isoformat(),
        environment=Environment(
            machine=machine,
            versions={"torch": "2.13.0", "transformers": "5.23.0"},
            settings={"n_threads": 1, "n_allowed_cores": 8},
            devices=({"name": "An accelerator", "driver": "580.1", "power_limit_w": 700.0},),
        ),
        commit=Commit(id=commit, branch="main", is_dirty=False),
        cases=(),
    )


def _cases_json(size: Size, rng: random.Random) -> str:
    cases = [_a_case(number, size.n_rounds, rng) for number in range(size.n_cases)]
    return json.dumps([to_plain(case) for case in cases])


def _a_case(number: int, n_rounds: int, rng: random.Random) -> Case:
    name = f"test_caption[{number}]"
    return Case(
        id=f"benchmarks/test_caption.py::{name}",
        name=name,
        test=f"benchmarks/test_caption.py::{name}",
        device="cuda:0",
        workload=Workload(
            model="AForConditionalGeneration",
            n_parameters=7_000_000_000,
            dtype="bfloat16",
            attention="sdpa",
            inputs={"pixel_values": "bfloat16[1, 3, 512, 512]", "input_ids": "int64[1, 300]"},
            generation={"max_new_tokens": 16, "do_sample": False},
            batch_size=1,
            n_vision_tokens=256,
            n_text_tokens=44,
            n_output_tokens=16,
            output_digest=f"{rng.getrandbits(64):016x}",
        ),
        phase_map=None,
        calls=tuple(_a_call(rng) for _ in range(n_rounds)),
        stop_reason="the noise is low",
        n_threads=1,
    )


def _a_call(rng: random.Random) -> Call:
    walls = {phase: rng.gauss(mean_ms, mean_ms / 100) for phase, mean_ms in PHASES_MS.items()}
    spans = []
    start_ms = 0.0
    for phase, wall_ms in walls.items():
        measures = {WALL: wall_ms, CPU: wall_ms * rng.uniform(0.98, 1.0)}
        spans.append(Span(name=str(phase), start_ms=start_ms, measures=measures))
        start_ms += wall_ms
    cpu_ms = sum(span.measures[CPU] for span in spans)
    call = Call(
        total={WALL: sum(walls.values()), CPU: cpu_ms},
        outside={WALL: rng.uniform(0.01, 0.02), CPU: 0.01},
        spans=tuple(spans),
        n_output_tokens=16,
        n_decode_steps=15,
        n_generated_tokens=16,
        n_vision_tokens=256,
        n_text_tokens=44,
        batch_size=1,
        n_vision_calls=1,
        started_ms=rng.uniform(0, 1e6),
    )
    return replace(call, contended_ratio=rng.uniform(0, 0.01))
