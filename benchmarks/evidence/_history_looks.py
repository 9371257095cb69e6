"""Looks at one large history, before and after it was compacted: reading it, and judging by it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.evidence._histories import Size, candidate_of, write_history
from benchmarks.evidence._history_processes import CHOOSE_AND_READ, JUDGE, program, timed
from benchmarks.evidence._record import say
from benchmarks.evidence._statistics import counted, show_progress
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.store import open_store

SEED = 0
N_TURNS = 7
FILES, PARQUET = "a file each", "compacted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Choosing and reading a baseline: times of whole processes, and what the last one saw."""

    size: Size
    form: str
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]
    n_names: int
    n_runs: int
    n_times: int
    heavy: tuple[str, ...]
    history_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Judging a run by a history: the time from opening it to the verdicts, and what was judged."""

    size: Size
    form: str
    judged_s: tuple[float, ...]
    n_runs: int
    n_judged: int
    heavy: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Compacting a whole history once."""

    size: Size
    wall_s: float
    n_folded: int


def looks_at(size: Size, n_baseline: int) -> tuple[list[tuple[Read, Gate]], Compaction]:
    """Write a history, read it and judge by it, compact it, do both again."""
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        history = root / ".vlm_latency"
        fingerprint = write_history(history, size, SEED, repository=root)
        candidate_of(history, root / "candidate.json")
        say(f"{size}: written")
        before = _look(root, fingerprint, size, FILES, n_baseline)
        start_s = time.perf_counter()
        done = compact(open_store(history), report=show_progress)
        compaction = Compaction(
            size=size, wall_s=time.perf_counter() - start_s, n_folded=done.n_folded
        )
        say(f"{size}: compacted in {compaction.wall_s:.0f} s")
        return [before, _look(root, fingerprint, size, PARQUET, n_baseline)], compaction


def _look(
    root: Path, fingerprint: str, size: Size, form: str, n_baseline: int
) -> tuple[Read, Gate]:
    history = root / ".vlm_latency"
    choosing = program(CHOOSE_AND_READ, history, fingerprint, n_baseline)
    judging = program(JUDGE, history, root, root / "candidate.json")
    timed(choosing, root)
    timed(judging, root)
    turns = [
        (timed(choosing, root), timed(judging, root)) for _ in counted(N_TURNS, f"{size}, {form}")
    ]
    reads, gates = zip(*turns, strict=True)
    seen, judged = reads[-1].printed, gates[-1].printed
    read = Read(
        size=size,
        form=form,
        wall_s=tuple(read.wall_s for read in reads),
        cpu_s=tuple(read.cpu_s for read in reads),
        n_names=seen["n_names"],
        n_runs=seen["n_runs"],
        n_times=seen["n_times"],
        heavy=tuple(seen["heavy"]),
        history_bytes=sum(path.stat().st_size for path in history.rglob("*") if path.is_file()),
    )
    gate = Gate(
        size=size,
        form=form,
        judged_s=tuple(gate.printed["judged_s"] for gate in gates),
        n_runs=judged["n_runs"],
        n_judged=judged["n_judged"],
        heavy=tuple(judged["heavy"]),
    )
    return read, gate
