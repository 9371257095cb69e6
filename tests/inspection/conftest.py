"""What tests of inspection share: files of functions, and the command run in this process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_vlmlatency.cli import main
from tests.inspection.runs import Run
from tests.threads import torch_threads

ZOO_FILE = """\
from tests.zoo import build as specimen_of


def zoo(name):
    specimen = specimen_of(name)
    return specimen.model, specimen.inputs


"""
Inspect = Callable[..., Run]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small models on several threads spend their time waiting for each other."""
    with torch_threads(1):
        yield


@pytest.fixture
def inspect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Inspect:
    """Run `vlmlatency inspect` in a terminal of 80 columns, in a folder of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Run:
        status = main(["inspect", *arguments])
        captured = capsys.readouterr()
        return Run(status, captured.out, captured.err)

    return run


@pytest.fixture
def zoo_model(tmp_path: Path) -> Callable[[str], str]:
    """Return a MODEL that builds one of the zoo's."""

    def named(name: str) -> str:
        (tmp_path / "models.py").write_text(
            f"{ZOO_FILE}def build_it():\n    return zoo({name!r})\n", encoding="utf-8"
        )
        return "models.py:build_it"

    return named


@pytest.fixture
def user_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write models.py with functions of the user's own."""

    def written(code: str) -> Path:
        path = tmp_path / "models.py"
        path.write_text(ZOO_FILE + code, encoding="utf-8")
        return path

    return written
