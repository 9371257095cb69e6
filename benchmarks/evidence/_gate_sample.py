"""The sample report in docs/gate.md: a gate of a commit with half more vision work, for real.

python -m benchmarks.evidence._gate_sample

No evidence: nothing is claimed of these times, so `make evidence` leaves it out.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.evidence._docs import filled
from benchmarks.evidence._record import ROOT, machine_kind, now, read_machine
from benchmarks.evidence.ab_real import N_LAYERS, commits_of
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.records import GateStatus

PAGE = ROOT / "docs" / "gate.md"
NAME = "gate_sample"
WIDTH = 88
COMMAND = "pytest benchmarks/ --vlm-gate"


def main() -> int:
    """Gate the second of two commits, and put the report into the page."""
    with tempfile.TemporaryDirectory(prefix="gate-sample-") as folder:
        root = Path(folder).resolve()
        commits_of(root, (N_LAYERS, N_LAYERS * 3 // 2))
        command = [sys.executable, "-m", *COMMAND.split(), "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, "--color=no"],
            env={**os.environ, "COLUMNS": str(WIDTH)},
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if done.returncode != GateStatus.SLOWER:
        raise RuntimeError(
            f"the gate ended with {done.returncode}; expected {GateStatus.SLOWER:d}\n{done.stdout}"
        )
    with pinned_threads(1):  # as the cases were measured
        machine = machine_kind(read_machine())
    text = block_of(done.stdout, f"{now()[:10]}, on {machine}")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), NAME, text), encoding="utf-8")
    return 0


def block_of(printed: str, origin: str) -> str:
    """Return what stands between the page's markers: the section of the gate, with its origin."""
    lines = printed.splitlines()
    start = next(index for index, line in enumerate(lines) if "- vlm gate " in line)
    end = next(index for index, line in enumerate(lines) if line.startswith("The gate "))
    shown = "\n".join(lines[start : end + 1])
    return f"`{COMMAND}`, {origin}:\n\n```text\n{shown}\n```"


if __name__ == "__main__":
    sys.exit(main())
