"""The sample of `vlmlatency inspect` in docs/inspecting.md: what the command prints.

python -m benchmarks.evidence._inspection

No evidence: it holds no times, and a test compares it with what the command prints.
"""

import os
import subprocess
import sys

from benchmarks.evidence._docs import filled
from benchmarks.evidence._record import ROOT

PAGE = ROOT / "docs" / "inspecting.md"
NAME = "inspection"
WIDTH = 80
ARGUMENTS = ("inspect", "dummy:molmoe-nano")
COMMAND = " ".join(("vlmlatency", *ARGUMENTS))


def main() -> int:
    """Inspect a model, and put the page into the page."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_vlmlatency", *ARGUMENTS],
        env={**os.environ, "COLUMNS": str(WIDTH)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    text = block_of(done.stdout)
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), NAME, text), encoding="utf-8")
    return 0


def block_of(printed: str) -> str:
    """Return what stands between the page's markers."""
    return f"`{COMMAND}`:\n\n```text\n{printed.rstrip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
