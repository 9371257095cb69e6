"""What the plugin adds to pytest's start-up, in CPU time of fresh processes.

`pytest --collect-only` of an empty file, with and without a plugin, in a random order, on one
core. The judged figure is a user's installation: the plugins that installing this one brings.
hypothesis's plugin, in the development environment, moves pytest just below a threshold of the
garbage collector; it is shown, with the number of full collections, and not judged. Bytecode is
kept, as an installer does: PYTHONDONTWRITEBYTECODE is not passed on.
"""

import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
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
from benchmarks.evidence._statistics import Interval, counted, median_interval, table
from pytest_vlmlatency.machine.cpu import pinned_threads

HEAVY = ("torch", "transformers", "numpy", "scipy", "duckdb")
PLUGIN = "pytest_vlmlatency.plugin"
USERS = frozenset({"anyio", "pytest-benchmark", "pytest-vlmlatency", "pytest-xdist"})
"""The plugins that installing ours brings; anyio comes with the hub client of transformers."""
DEVELOPMENT = "hypothesis"

NO_TESTS = 5
"""pytest's exit status when no tests were collected."""
MS_PER_S = 1000
NOT_PASSED_ON = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS"})
WITNESS = f"""
import gc, sys, pytest
status = pytest.main(sys.argv[1:])
assert status == {NO_TESTS}, status
loaded = [name for name in {(PLUGIN, *HEAVY)!r} if name in sys.modules]
print("seen:", gc.get_stats()[2]["collections"], *loaded)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What a start did: full garbage collections, and which of our plugin and `HEAVY` it loaded."""

    n_full_collections: int
    loaded: tuple[str, ...]


def cpu_ms_of_start(file: Path, left_out: Sequence[str]) -> float:
    """Collect an empty file in a new process; return its CPU time, user and system, in ms."""
    before_ms = _children_ms()
    process = _python("-m", "pytest", *_arguments(file, left_out), folder=file.parent)
    after_ms = _children_ms()
    if process.returncode != NO_TESTS:
        raise RuntimeError(
            f"pytest with these plugins left out: {', '.join(left_out) or 'none'}, ended with "
            f"{process.returncode}; expected {NO_TESTS}, no tests collected: "
            f"{process.stdout}{process.stderr}"
        )
    return after_ms - before_ms


def witness_start(file: Path, left_out: Sequence[str]) -> Witness:
    """Collect an empty file in a new process, which returns what it did."""
    process = _python("-c", WITNESS, *_arguments(file, left_out), folder=file.parent)
    _, found, seen = process.stdout.rpartition("seen:")
    if not found:
        raise RuntimeError(f"pytest did not end as expected: {process.stdout}{process.stderr}")
    n_full_collections, *loaded = seen.split()
    return Witness(n_full_collections=int(n_full_collections), loaded=tuple(loaded))


def imported_packages(witness: Witness) -> tuple[str, ...]:
    """Return which of the heavy packages a start imported; the plugin must have been there."""
    if PLUGIN not in witness.loaded:
        raise RuntimeError(
            "pytest did not load pytest-vlmlatency; expected it to be installed: "
            "pip install --editable '.[dev]'"
        )
    return tuple(name for name in witness.loaded if name != PLUGIN)


def installed_plugins() -> tuple[str, ...]:
    """Return the distributions that have plugins of pytest; any that nobody expects is refused."""
    names = {point.dist.name for point in entry_points(group="pytest11") if point.dist is not None}
    if names != USERS | {DEVELOPMENT}:
        raise RuntimeError(
            f"pytest has plugins of {', '.join(sorted(names))} here; expected "
            f"{', '.join(sorted(USERS))} and {DEVELOPMENT}, so that leaving out the last gives a "
            f"user's installation: make the environment with `make clean check`"
        )
    return tuple(sorted(names))


def _arguments(file: Path, left_out: Sequence[str]) -> Sequence[str]:
    without = [part for plugin in left_out for part in ("-p", f"no:{plugin}")]
    return (*without, "--collect-only", "-q", str(file))


def _python(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in NOT_PASSED_ON}
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _children_ms() -> float:
    """Return the CPU time of all processes that this one started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * MS_PER_S


NAME = "startup"
SEED = 0
ALLOWED_MS = 5.0
HYPOTHESIS, OURS, BENCHMARK = "hypothesispytest", "vlmlatency", "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Starts with a plugin and starts without it, as many of each; the rest is left out of both."""

    name: str
    plugin: str
    rest: tuple[str, ...]
    n_turns: int


JUDGED = Comparison(name="pytest-vlmlatency", plugin=OURS, rest=(HYPOTHESIS,), n_turns=90)
COMPARISONS = (
    JUDGED,
    Comparison(name="pytest-benchmark", plugin=BENCHMARK, rest=(HYPOTHESIS, OURS), n_turns=30),
    Comparison(
        name="pytest-vlmlatency, beside hypothesis's plugin", plugin=OURS, rest=(), n_turns=30
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """CPU times of the starts without a plugin and with it, paired.

    `full_collections` is how often a start searched everything for garbage, without it and with it.
    """

    name: str
    without_ms: tuple[float, ...]
    with_ms: tuple[float, ...]
    full_collections: tuple[int, int]

    @property
    def added_ms(self) -> Interval:
        """The median of the paired differences."""
        pairs = zip(self.with_ms, self.without_ms, strict=True)
        return median_interval([with_it - without for with_it, without in pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The comparisons, the judged one first, and what a user's start imported.

    `plugins` are the distributions that have plugins of pytest in this environment.
    """

    added: tuple[Added, ...]
    imported: tuple[str, ...]
    plugins: tuple[str, ...]


def main() -> int:
    """Start pytest again and again, and publish what the plugin adds."""
    started_at = now()
    order_of = random.Random(SEED)
    with TemporaryDirectory() as folder, pinned_threads(1):
        file = Path(folder) / "test_empty.py"
        file.touch()
        evidence = Evidence[Figures](
            name=NAME,
            command=command_of(NAME),
            seed=SEED,
            started_at=started_at,
            environment=read_machine(),
            claims=(),
            figures=Figures(
                added=tuple(compare(one, file, order_of) for one in COMPARISONS),
                imported=imported_packages(witness_start(file, JUDGED.rest)),
                plugins=installed_plugins(),
            ),
        )
    return publish(replace(evidence, claims=judge(evidence.figures)), describe)


def compare(comparison: Comparison, file: Path, order_of: random.Random) -> Added:
    """Start pytest without and with a plugin in turn; the first of each fills caches only."""
    kinds = ((*comparison.rest, comparison.plugin), comparison.rest)
    witnesses = [witness_start(file, left_out) for left_out in kinds]
    cpu_ms: tuple[list[float], list[float]] = ([], [])
    start_s = time.perf_counter()
    for _ in counted(comparison.n_turns, comparison.name):
        for kind in order_of.sample((0, 1), 2):
            cpu_ms[kind].append(cpu_ms_of_start(file, kinds[kind]))
    say(f"{comparison.name}: {comparison.n_turns} turns in {time.perf_counter() - start_s:.0f} s")
    return Added(
        name=comparison.name,
        without_ms=tuple(cpu_ms[0]),
        with_ms=tuple(cpu_ms[1]),
        full_collections=(witnesses[0].n_full_collections, witnesses[1].n_full_collections),
    )


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the start-up, and whether it held."""
    own = figures.added[0].added_ms
    return (
        Claim(
            text=f"The plugin adds at most {ALLOWED_MS:g} ms of CPU time to pytest's start-up, by "
            f"the interval's upper end.",
            holds=own.high <= ALLOWED_MS,
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
    rows = [
        [
            added.name,
            _interval(added.added_ms),
            f"{median(added.without_ms):.0f} ms",
            str(len(added.with_ms)),
            "{} → {}".format(*added.full_collections),
        ]
        for added in evidence.figures.added
    ]
    return (
        f"CPU time, user and system, of `pytest --collect-only` of an empty file in processes with "
        f"and without a plugin, in turn; medians of paired differences with 95 % intervals. "
        f"Plugins of pytest here: {', '.join(evidence.figures.plugins)}; a user has them without "
        f"{DEVELOPMENT}'s.\n\n"
        + table(["plugin", "adds", "to", "processes of each", "full garbage collections"], rows)
    )


def _interval(interval: Interval) -> str:
    return f"{interval.middle:.1f} ms ({interval.low:.1f} to {interval.high:.1f})"


if __name__ == "__main__":
    sys.exit(main())
