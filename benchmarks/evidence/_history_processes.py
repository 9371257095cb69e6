"""Fresh processes that begin a judgement by a large history, and how long each of them took.

Pure standard library where it is timed: the programs are texts, run by this interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.evidence._record import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
from pytest_vlmlatency.history.choosing import run_in_file
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
