"""The documentation: its code runs, and its figures are those that the evidence wrote."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evidence import cost, delays, origin_mistake, startup
from benchmarks.evidence._docs import blocks
from benchmarks.evidence._record import DOCUMENT, ROOT, Evidence, block_of, read_evidence

DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

Described = tuple[type[Evidence[Any]], Callable[[Evidence[Any]], str]]
SCRIPTS: dict[str, Described] = {
    "delays": (Evidence[delays.Figures], delays.describe),
    "cost": (Evidence[cost.Figures], cost.describe),
    "origin_mistake": (Evidence[origin_mistake.Figures], origin_mistake.describe),
    "startup": (Evidence[startup.Figures], startup.describe),
}


@pytest.fixture
def one_thread() -> object:
    """Models this small are several times slower when threads wait for one another."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
@pytest.mark.usefixtures("one_thread")
def test_the_code_of_a_document_runs_from_top_to_bottom(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(PYTHON.findall(document.read_text(encoding="utf-8")))

    exec(compile(code, document.name, "exec"), {"__name__": document.stem})


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_documented_figure_is_the_one_that_its_script_wrote(name: str) -> None:
    kind, describe = SCRIPTS[name]
    evidence = read_evidence(kind, name)

    assert blocks(DOCUMENT.read_text(encoding="utf-8"))[name] == block_of(evidence, describe)


def test_every_script_of_the_evidence_has_its_place_in_the_documentation() -> None:
    folder = ROOT / "benchmarks" / "evidence"
    scripts = {path.stem for path in folder.glob("[!_]*.py")}

    assert scripts == set(SCRIPTS) == set(blocks(DOCUMENT.read_text(encoding="utf-8")))
