"""Starts of pytest in fresh processes, with plugins left out, and what a start leaves behind.

Bytecode is kept, as an installer does. Where PYTHONDONTWRITEBYTECODE is set, the sources of an
editable installation are compiled at every start, which no user's are: it is not passed on.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

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
    """Collect an empty file in a new process that then tells what it did."""
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
