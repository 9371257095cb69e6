"""What a history of thousands of runs costs: choosing a baseline of 20 runs, reading it, judging.

Each figure is the time of a fresh process, in turn with the others; before each, a process of its
kind fills the caches. Choosing and reading include imports. A gate gets from git the commits before
its own, chooses, reads and judges; its figure leaves out imports, which pytest has made by then.
Beside it, what pytest-benchmark's --benchmark-compare adds to the same run. The history is
generated (`_histories`), lies on a disk, and is measured before and after it is compacted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.evidence._histories import Size, candidate_of, write_benchmark_files, write_history
from benchmarks.evidence._record import (
    ROOT,
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import counted, show_progress, table
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.machine.cpu import pinned_threads

if TYPE_CHECKING:
    from collections.abc import Sequence


CHOOSE_AND_READ = """\
import json
import sys
from pytest_vlmlatency.history.store import open_store

store = open_store(sys.argv[1], is_readonly=True)
index = store.index()
clean = [name for name in index.names if not name.is_dirty and not name.is_pull_request]
chosen = [name for name in clean if name.fingerprint == sys.argv[2]][-int(sys.argv[3]):]
stored = store.read(chosen)
print(json.dumps({
    "n_names": len(index.names),
    "n_runs": len(stored.runs),
    "n_times": sum(len(times) for run in stored.runs for case in run.cases
                   for times in case.times_ms.values()),
    "heavy": [name for name in ("torch", "transformers", "scipy") if name in sys.modules],
}))
"""
JUDGE = """\
import json
import sys
import time
from datetime import date
from pathlib import Path
from pytest_vlmlatency.history.run_files import run_in_file
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.gate.gate import GateRequest, judge_run

run = run_in_file(Path(sys.argv[3]))
start_s = time.perf_counter()
store = open_store(sys.argv[1], is_readonly=True)
request = GateRequest(root=Path(sys.argv[2]), today=date.today(), ref="HEAD")
report = judge_run(run, store, request, open_pairs=None)
print(json.dumps({
    "judged_s": time.perf_counter() - start_s,
    "n_runs": len(report.runs),
    "n_judged": sum(case.state == "judged" for case in report.cases),
    "heavy": [name for name in ("torch", "transformers") if name in sys.modules],
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that ended well: its times, and the object that it printed."""

    wall_s: float
    cpu_s: float
    printed: dict[str, Any]


def timed(command: Sequence[str], folder: Path) -> Ended:
    """Run a process to its end, which has to be a good one."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, start_s = os.times(), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    wall_s, after = time.perf_counter() - start_s, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
    cpu_s = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    printed = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return Ended(wall_s=wall_s, cpu_s=cpu_s, printed=printed)


def program(text: str, *args: object) -> tuple[str, ...]:
    """Return the command that runs one of the programs."""
    return (sys.executable, "-c", text, *map(str, args))


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


NAME = "history_scale"
N_BASELINE = 20
USUAL = Size(n_runs=3000, n_cases=50, n_rounds=30)
MANY = Size(n_runs=10_000, n_cases=5, n_rounds=30)
BENCHMARK = Size(n_runs=1000, n_cases=50, n_rounds=30)
ALLOWED_COMPACTED_S, ALLOWED_S = 0.5, 3.0
BYTES_PER_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """pytest-benchmark's runs with --benchmark-compare and without, in turn."""

    size: Size
    with_s: tuple[float, ...]
    without_s: tuple[float, ...]

    @property
    def added_s(self) -> float:
        """The median of the paired differences."""
        pairs = zip(self.with_s, self.without_s, strict=True)
        return median(with_it - without for with_it, without in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of it."""

    reads: tuple[Read, ...]
    gates: tuple[Gate, ...]
    compactions: tuple[Compaction, ...]
    compare: Compare


def main() -> int:
    """Make the histories, read them, compact them, read them again."""
    started_at = now()
    with pinned_threads(1):
        machine = read_machine()
    looks, compactions = [], []
    for size in (USUAL, MANY):
        of_size, compaction = looks_at(size, N_BASELINE)
        looks += of_size
        compactions.append(compaction)
    figures = Figures(
        reads=tuple(read for read, _ in looks),
        gates=tuple(gate for _, gate in looks),
        compactions=tuple(compactions),
        compare=_compare(BENCHMARK),
    )
    return publish_figures(
        NAME, figures, judge, describe, seed=SEED, started_at=started_at, environment=machine
    )


def _compare(size: Size) -> Compare:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_benchmark_files(folder, size)
        one = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_cases.py")
        without = (*one, "--benchmark-columns=min")
        times: tuple[list[float], list[float]] = ([], [])
        for _ in counted(N_TURNS, f"pytest-benchmark, {size}"):
            for kind, command in enumerate(((*without, "--benchmark-compare"), without)):
                times[kind].append(timed(command, folder).wall_s)
        return Compare(size=size, with_s=tuple(times[0]), without_s=tuple(times[1]))


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of large histories, and whether it held."""
    by_kind = {(read.size.n_runs, read.form): read for read in figures.reads}
    usual = by_kind[USUAL.n_runs, PARQUET]
    files = by_kind[USUAL.n_runs, FILES]
    many = by_kind[MANY.n_runs, PARQUET]
    n_times = [read.n_times for read in (usual, files)]
    kinds = [*(read.heavy for read in figures.reads), *(gate.heavy for gate in figures.gates)]
    heavy = sorted({name for names in kinds for name in names})
    is_all_there = all(
        (read.n_names, read.n_runs) == (read.size.n_runs, N_BASELINE) for read in figures.reads
    )
    return (
        _within(usual, ALLOWED_COMPACTED_S),
        _within(files, ALLOWED_S),
        _within(many, ALLOWED_S),
        *(_judged_within(gate) for gate in figures.gates),
        Claim(
            text=f"Every run is in every index, {N_BASELINE} runs are read, and as many times from "
            f"Parquet as from files.",
            holds=is_all_there and len(set(n_times)) == 1,
            seen=f"{', '.join(f'{read.n_names:,}' for read in figures.reads)} names; "
            f"{', '.join(f'{n:,}' for n in n_times)} times.",
        ),
        Claim(
            text="Every run was compacted, and its own file removed.",
            holds=all(done.n_folded == done.size.n_runs for done in figures.compactions),
            seen=f"{', '.join(f'{done.n_folded:,}' for done in figures.compactions)}.",
        ),
        Claim(
            text="No such process imports torch or transformers, and one that reads no scipy.",
            holds=not heavy,
            seen=f"{', '.join(heavy) or 'none'}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the tables: ours by size and form, and pytest-benchmark's."""
    figures = evidence.figures
    rows = [
        [
            f"{read.size}, {read.form}",
            _seconds(read.wall_s),
            _seconds(read.cpu_s),
            _seconds(gate.judged_s),
            f"{read.history_bytes / BYTES_PER_MIB:,.0f} MiB",
        ]
        for read, gate in zip(figures.reads, figures.gates, strict=True)
    ]
    compare = figures.compare
    compacted = " and ".join(
        f"{done.size} in {done.wall_s:,.0f} s ({1000 * done.wall_s / done.n_folded:.0f} ms a run)"
        for done in figures.compactions
    )
    usual = next(
        read for read in figures.reads if (read.size.n_runs, read.form) == (USUAL.n_runs, PARQUET)
    )
    ratio = compare.added_s / median(usual.wall_s)
    return (
        f"A fresh process chooses {N_BASELINE} runs by name and reads their round times: median "
        f"over {N_TURNS} processes (least to most), imports included. Sizes are runs x cases x "
        f"rounds. A gate: from opening the history to the verdicts of all cases, git's commits "
        f"included, imports apart.\n\n"
        + table(["history", "wall time", "CPU time", "a gate, wall", "on disk"], rows)
        + f"\n\nCompaction, verification included: {compacted}.\n\npytest-benchmark's "
        f"`--benchmark-compare` beside {compare.size} stored runs, with their samples, adds "
        f"{compare.added_s:.1f} s to a run of {median(compare.without_s):.1f} s: {ratio:.0f} times "
        f"what reading a baseline from {usual.size} compacted runs takes here."
    )


def _within(read: Read, allowed_s: float) -> Claim:
    return Claim(
        text=f"{read.size}, {read.form}: a baseline is chosen and read within {allowed_s:g} s.",
        holds=median(read.wall_s) <= allowed_s,
        seen=f"{_seconds(read.wall_s)}.",
    )


def _judged_within(gate: Gate) -> Claim:
    allowed_s = ALLOWED_COMPACTED_S if gate.form == PARQUET else ALLOWED_S
    return Claim(
        text=f"{gate.size}, {gate.form}: a gate has judged all cases against {N_BASELINE} runs "
        f"within {allowed_s:g} s.",
        holds=median(gate.judged_s) <= allowed_s
        and (gate.n_runs, gate.n_judged) == (N_BASELINE, gate.size.n_cases),
        seen=f"{_seconds(gate.judged_s)}; {gate.n_judged} cases, {gate.n_runs} runs.",
    )


def _seconds(times_s: Sequence[float]) -> str:
    return f"{median(times_s):.2f} s ({min(times_s):.2f} to {max(times_s):.2f})"


if __name__ == "__main__":
    sys.exit(main())
