"""The sample tables of README.md and docs/index.md: what pytest prints in a terminal.

python -m benchmarks.evidence._sample

No evidence: nothing is claimed of these times, so `make evidence` leaves it out.
"""

import os
import pty
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence._docs import filled
from benchmarks.evidence._record import ROOT, machine_kind, now, read_machine
from pytest_vlmlatency.machine.cpu import pinned_threads


@dataclass(frozen=True, slots=True)
class Sample:
    """A table in a document: its block, the terminal's width, and which benchmarks it shows."""

    document: Path
    block: str
    width: int
    keyword: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of pytest."""
        return ("benchmarks/", "-q", "--vlm-rounds", "10", "-k", self.keyword)

    @property
    def command(self) -> str:
        """The command as a user types it."""
        return shlex.join(("pytest", *self.arguments))


SAMPLES = (
    Sample(ROOT / "README.md", "sample_short", 88, "test_caption and 512 and not molmoe"),
    Sample(ROOT / "docs" / "index.md", "sample", 118, "512 or page or text_only"),
)


def main() -> int:
    """Measure some of the benchmarks in a terminal, and put the tables into the documents."""
    with pinned_threads(1):  # as the cases are measured
        machine = machine_kind(read_machine())
    for sample in SAMPLES:
        os.environ["COLUMNS"] = str(sample.width)
        printed = in_terminal([sys.executable, "-m", "pytest", *sample.arguments, "--color=no"])
        text = (
            f"`{sample.command}`, {now()[:10]}, in a terminal {sample.width} columns wide, on "
            f"{machine}:\n\n```text\n{section_of(printed)}\n```"
        )
        document = sample.document.read_text(encoding="utf-8")
        sample.document.write_text(filled(document, sample.block, text), encoding="utf-8")
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
