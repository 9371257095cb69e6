"""The documentation: its code runs, and its figures are those that the evidence wrote."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.evidence import _gate_sample, _inspection, _sample
from benchmarks.evidence._docs import blocks
from benchmarks.evidence._record import RESULTS, ROOT, Evidence, block_of, read_evidence
from tests.threads import torch_threads

DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
COMPLETE = [path for path in DOCUMENTS if path.name != "index.md"]
"""The code of index.md takes fixtures of the reader's own: tests/test_readme.py runs it."""
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks" / "evidence").glob("[!_]*.py"))
MEASURED = sorted(path.stem for path in RESULTS.glob("*.json"))


SAMPLES = {sample.block for sample in _sample.SAMPLES} | {_inspection.NAME, _gate_sample.NAME}
"""Blocks of what the product prints, which claim nothing; tests/test_readme.py checks them."""


def documented() -> dict[str, str]:
    """Return the blocks of figures of all documents, by name; no two have the same."""
    found = [block for path in DOCUMENTS for block in blocks(path.read_text("utf-8")).items()]
    assert len(dict(found)) == len(found)
    return {name: text for name, text in found if name not in SAMPLES}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models this small are several times slower when threads wait for one another."""
    with torch_threads(1):
        yield


@pytest.mark.parametrize("document", COMPLETE, ids=lambda path: path.name)
@pytest.mark.usefixtures("one_thread")
def test_the_code_of_a_document_runs_from_top_to_bottom(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(PYTHON.findall(document.read_text(encoding="utf-8")))

    exec(compile(code, document.name, "exec"), {"__name__": document.stem})


@pytest.mark.parametrize("name", MEASURED)
def test_a_documented_figure_is_the_one_that_its_script_wrote(name: str) -> None:
    script = importlib.import_module(f"benchmarks.evidence.{name}")
    evidence = read_evidence(Evidence[script.Figures], name)  # type: ignore[name-defined]  # found by name

    assert documented()[name] == block_of(evidence, script.describe)


def test_every_script_of_the_evidence_has_its_place_in_the_documentation() -> None:
    assert set(SCRIPTS) == set(documented())


def test_nothing_is_documented_that_no_script_wrote() -> None:
    """A block stays empty until its script ran."""
    assert {name for name, text in documented().items() if text} == set(MEASURED)
