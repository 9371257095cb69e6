"""The sample table of README.md: what pytest prints in a terminal, copied there by this script.

python -m benchmarks.evidence._sample

No evidence: nothing is claimed of these times, so `make evidence` leaves it out.
"""

import os
import pty
import shlex
import sys
from pathlib import Path

from benchmarks.evidence._docs import filled
from benchmarks.evidence._record import ROOT, machine_kind, now, read_machine
from pytest_vlmlatency.machine.cpu import pinned_threads

README = ROOT / "README.md"
NAME = "sample"
WIDTH = 118
ARGUMENTS = ("benchmarks/", "-q", "--vlm-rounds", "10", "-k", "512 or page or text_only")
COMMAND = shlex.join(("pytest", *ARGUMENTS))


def main() -> int:
    """Measure a few of the benchmarks in a terminal, and put the table into the README."""
    os.environ["COLUMNS"] = str(WIDTH)
    printed = in_terminal([sys.executable, "-m", "pytest", *ARGUMENTS, "--color=no"])
    with pinned_threads(1):  # as the cases were measured
        machine = machine_kind(read_machine())
    origin = f"`{COMMAND}`, {now()[:10]}, in a terminal {WIDTH} columns wide, on {machine}:"
    text = f"{origin}\n\n```text\n{section_of(printed)}\n```"
    README.write_text(filled(README.read_text(encoding="utf-8"), NAME, text), encoding="utf-8")
    return 0


def in_terminal(command: list[str], *, folder: Path = ROOT) -> str:
    """Run a command in a terminal of its own; return what it printed, if it ended well."""
    written = bytearray()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return data

    os.chdir(folder)
    status = os.waitstatus_to_exitcode(pty.spawn(command, keep))
    if status != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {status}; expected 0, see above")
    return written.decode().replace("\r\n", "\n")


def section_of(printed: str) -> str:
    """Return our section of what pytest printed: from its title to pytest's next one."""
    lines = printed.splitlines()
    start = next((index for index, line in enumerate(lines) if "- vlm latency: " in line), None)
    if start is None:
        raise ValueError(f"pytest printed no table; expected 'vlm latency: ' in\n{printed}")
    end = next(index for index, line in enumerate([*lines[start:], "==="]) if line[:3] == "===")
    return "\n".join(lines[start : start + end])


if __name__ == "__main__":
    sys.exit(main())
