"""What the plugin adds to pytest's start-up, in CPU time of fresh processes.

`pytest --collect-only` of an empty file, as installed, without this plugin, and without this plugin
and pytest-benchmark. The kinds take turns, in an order drawn anew each time. A plugin's own objects
can bring about one more garbage collection of everything that pytest has loaded, so the first two
are also started with the collector off. A further process says which heavy packages were imported.
"""

import random
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    command_of,
    now,
    publish,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import Interval, median_interval
from benchmarks.evidence._table import table

NAME = "startup"
SEED = 0
N_TURNS = 36
ALLOWED_MS = 5.0
MS_PER_S = 1000
NO_TESTS = 5
"""pytest's exit status when no tests were collected."""
HEAVY = ("torch", "transformers", "numpy", "scipy", "duckdb")
PLUGIN = "pytest_vlmlatency.plugin"
WITNESS = f"""
import sys, pytest
status = pytest.main(["--collect-only", "-q", sys.argv[1]])
assert status == {NO_TESTS}, status
loaded = [name for name in {(PLUGIN, *HEAVY)!r} if name in sys.modules]
print("loaded:", *loaded)
"""


class Kind(StrEnum):
    """Which plugins are left out."""

    WITH = "as installed"
    WITHOUT = "without pytest-vlmlatency"
    BARE = "without pytest-vlmlatency and pytest-benchmark"
    WITH_NO_GC = "as installed, garbage collector off"
    WITHOUT_NO_GC = "without pytest-vlmlatency, garbage collector off"


NO_GC = "import gc, sys, pytest; gc.disable(); sys.exit(pytest.main(sys.argv[1:]))"
WITHOUT_OURS = ("-p", "no:vlmlatency")
COMMANDS: Mapping[str, Sequence[str]] = {
    Kind.WITH: ("-m", "pytest"),
    Kind.WITHOUT: ("-m", "pytest", *WITHOUT_OURS),
    Kind.BARE: ("-m", "pytest", *WITHOUT_OURS, "-p", "no:benchmark"),
    Kind.WITH_NO_GC: ("-c", NO_GC),
    Kind.WITHOUT_NO_GC: ("-c", NO_GC, *WITHOUT_OURS),
}
ADDED = (
    ("pytest-vlmlatency", Kind.WITH, Kind.WITHOUT),
    ("pytest-vlmlatency, garbage collector off", Kind.WITH_NO_GC, Kind.WITHOUT_NO_GC),
    ("pytest-benchmark", Kind.WITHOUT, Kind.BARE),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What one plugin adds: the median of paired differences with its 95 % interval, in ms."""

    plugin: str
    cpu_ms: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """CPU times of all processes by kind, user and system, and what was imported."""

    cpu_ms: Mapping[str, tuple[float, ...]]
    added: tuple[Added, ...]
    imported: tuple[str, ...]


def main() -> int:
    """Start pytest again and again, and publish what the plugin adds."""
    started_at = now()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "test_empty.py"
        file.touch()
        imported = imported_packages(file)
        cpu_ms = measure_turns(file)
    figures = Figures(
        cpu_ms={kind: tuple(values) for kind, values in cpu_ms.items()},
        added=tuple(
            Added(plugin=plugin, cpu_ms=_added(cpu_ms[with_it], cpu_ms[without]))
            for plugin, with_it, without in ADDED
        ),
        imported=imported,
    )
    return publish(
        Evidence[Figures](
            name=NAME,
            command=command_of(NAME),
            seed=SEED,
            started_at=started_at,
            environment=read_machine(),
            claims=judge(figures),
            figures=figures,
        ),
        describe,
    )


def measure_turns(file: Path) -> dict[str, list[float]]:
    """Return the CPU times of each kind; the first start of each fills caches and is left out."""
    order_of = random.Random(SEED)
    cpu_ms: dict[str, list[float]] = {str(kind): [] for kind in Kind}
    for kind in Kind:
        start_pytest(file, kind)
    start_s = time.perf_counter()
    for turn in range(N_TURNS):
        for kind in order_of.sample(list(Kind), len(Kind)):
            cpu_ms[kind].append(start_pytest(file, kind))
        if (turn + 1) % 10 == 0:
            say(f"{turn + 1} of {N_TURNS} turns in {time.perf_counter() - start_s:.0f} s")
    return cpu_ms


def start_pytest(file: Path, kind: Kind) -> float:
    """Collect an empty file in a new process; return its CPU time, user and system, in ms."""
    before_ms = _children_ms()
    process = subprocess.run(
        [sys.executable, *COMMANDS[kind], "--collect-only", "-q", str(file)],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != NO_TESTS:
        raise RuntimeError(
            f"pytest {kind} ended with {process.returncode}; expected {NO_TESTS}, no tests "
            f"collected: {process.stdout}{process.stderr}"
        )
    return _children_ms() - before_ms


def imported_packages(file: Path) -> tuple[str, ...]:
    """Return which of the heavy packages a collection imports; the plugin must be there."""
    witness = subprocess.run(
        [sys.executable, "-c", WITNESS, str(file)],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    _, _, loaded = witness.stdout.rpartition("loaded:")
    names = tuple(loaded.split())
    if PLUGIN not in names:
        raise RuntimeError(
            "pytest did not load pytest-vlmlatency; expected it to be installed: "
            "pip install --editable '.[dev]'"
        )
    return tuple(name for name in names if name != PLUGIN)


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the start-up, and whether it held."""
    own = figures.added[0].cpu_ms
    return (
        Claim(
            text=f"The plugin adds at most {ALLOWED_MS:g} ms of CPU time to pytest's start-up.",
            holds=own.middle <= ALLOWED_MS,
            seen=f"{_interval(own)}.",
        ),
        Claim(
            text=f"Starting pytest imports none of {', '.join(HEAVY)}.",
            holds=not figures.imported,
            seen=f"{', '.join(figures.imported) or 'none'}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row for each plugin."""
    figures = evidence.figures
    rows = [[added.plugin, _interval(added.cpu_ms)] for added in figures.added]
    whole = ", ".join(f"{kind} {median(values):.0f}" for kind, values in figures.cpu_ms.items())
    return (
        f"CPU time, user and system, of `pytest --collect-only` of an empty file, "
        f"{len(figures.cpu_ms[Kind.WITH])} processes of each kind in turn; medians of paired "
        f"differences with 95 % intervals. Medians of the whole in ms: {whole}.\n\n"
        + table(["plugin", "adds"], rows)
    )


def _added(with_it: Sequence[float], without: Sequence[float]) -> Interval:
    return median_interval([one - other for one, other in zip(with_it, without, strict=True)])


def _interval(interval: Interval) -> str:
    return f"{interval.middle:.1f} ms ({interval.low:.1f} to {interval.high:.1f})"


def _children_ms() -> float:
    """Return the CPU time of all processes that this one started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * MS_PER_S


if __name__ == "__main__":
    sys.exit(main())
