"""`make evidence`: every script runs, and those that failed are named."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.evidence._record import ROOT

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

# In the place of python: `python -m benchmarks.evidence.cost` fails if a file fails/cost exists.
PYTHON = """\
#!/bin/sh
name=${2##*.}
echo "ran $name"
test ! -e "fails/$name"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, three scripts, and one that is no script."""
    (tmp_path / "fails").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    evidence = tmp_path / "benchmarks" / "evidence"
    evidence.mkdir(parents=True)
    (evidence / "_parts.py").touch()
    (evidence / "alpha.py").touch()
    (evidence / "beta.py").touch()
    (evidence / "gamma.py").touch()
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(PYTHON, encoding="utf-8")
    python.chmod(0o755)
    (tmp_path / "ready").touch()
    return tmp_path


def make_evidence(clone: Path) -> tuple[int, list[str]]:
    """Run `make evidence` with an interpreter that only says what it was given."""
    made = subprocess.run(
        ["make", "--silent", "evidence", "BIN=bin", "READY=ready", "--old-file=ready"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
    )
    return made.returncode, made.stdout.splitlines()


def test_a_script_that_fails_does_not_keep_the_next_ones_from_running(clone: Path) -> None:
    (clone / "fails" / "alpha").touch()
    (clone / "fails" / "beta").touch()

    status, printed = make_evidence(clone)

    assert status != 0
    assert [line for line in printed if line.startswith("ran")] == [
        "ran alpha",
        "ran beta",
        "ran gamma",
    ]
    assert printed[-1] == "== failed evidence: alpha beta"


def test_evidence_that_holds_ends_with_0(clone: Path) -> None:
    status, printed = make_evidence(clone)

    assert status == 0
    assert printed[-1] == "ran gamma"
