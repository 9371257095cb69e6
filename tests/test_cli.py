"""The command line itself: what it is called, how light it is, how it helps."""

import argparse
import io
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pytest_vlmlatency
from pytest_vlmlatency import cli
from pytest_vlmlatency.commands import ended
from pytest_vlmlatency.inspection.request import DEFAULT_PROMPT
from pytest_vlmlatency.printing import tell
from tests.projects import REPOSITORY

HELP_AND_HEAVY = """\
import runpy, sys
sys.argv = ["vlmlatency", *{arguments!r}]
try:
    runpy.run_module("pytest_vlmlatency", run_name="__main__")
finally:
    heavy = {{"torch", "transformers", "numpy", "PIL", "cattrs", "scipy", "duckdb"}}
    print("heavy:", sorted(heavy & set(sys.modules)))
"""


def in_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m pytest_vlmlatency` in a process of its own, and list what it imported."""
    code = HELP_AND_HEAVY.format(arguments=arguments)
    return subprocess.run(  # the interpreter itself
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "status", "printed"),
    [
        (("--help",), 0, "show where a model's phases are"),
        (("inspect", "--help"), 0, "vlmlatency inspect dummy:molmoe-nano\n"),
        (("--version",), 0, f"pytest-vlmlatency {pytest_vlmlatency.__version__}\n"),
        (("inspect", "dummy:x", "--trace-blocks"), 2, ""),
        *[
            ((name, "--help"), 0, f"usage: vlmlatency {name} ")
            for name in (
                "history",
                "compact",
                "merge",
                "import",
                "export-benchmark",
                "export",
                "profile",
            )
        ],
    ],
)
def test_it_starts_without_heavy_packages(
    arguments: tuple[str, ...], status: int, printed: str
) -> None:
    done = in_process(*arguments)

    assert done.returncode == status, done.stderr
    assert printed in done.stdout
    assert done.stdout.endswith("heavy: []\n")


def test_python_m_inspects_a_model() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_vlmlatency", "inspect", "dummy:llava-tiny", "--threads=1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("dummy:llava-tiny\n")


def test_the_console_script_is_the_same_function() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

    assert project["project"]["scripts"] == {"vlmlatency": "pytest_vlmlatency.cli:main"}
    assert callable(cli.main)


def test_a_command_without_a_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])

    assert "the following arguments are required: COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize("name", [command.NAME for command in cli.COMMANDS])
def test_help_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit, match="0"):
        cli.main([name, "--help"])

    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert name in printed


def test_the_help_of_inspect_names_the_prompt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit, match="0"):
        cli.main(["inspect", "--help"])

    assert repr(DEFAULT_PROMPT) in capsys.readouterr().out


@pytest.fixture(params=["buffered", "PYTHONUNBUFFERED"])
def closed_pipe(request: pytest.FixtureRequest) -> Iterator[io.TextIOWrapper]:
    """What a program writes to behind which nobody reads any more, as after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    is_through = request.param != "buffered"
    raw = open(writer, "wb", buffering=0 if is_through else -1)  # noqa: PTH123, SIM115 - a descriptor
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=is_through)
    yield stream
    stream.close()


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("history",), ("history", "--json"), ("history", "--sql", "FROM runs")],
)
def test_a_reader_that_closes_its_end_ends_a_command_without_a_traceback(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed_pipe: io.TextIOWrapper,
    arguments: tuple[str, ...],
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", closed_pipe)

    status = cli.main(arguments)

    assert status == 128 + 13


def test_a_pipe_to_something_else_that_breaks_is_no_reader_that_closed_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_(_words: list[str]) -> int:
        raise BrokenPipeError("a child process's")

    monkeypatch.setattr(cli, "_main", break_)

    with pytest.raises(BrokenPipeError, match="a child process's"):
        cli.main(["history"])


def test_output_that_is_lost_on_a_full_disk_fails_the_command_with_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_main", prints("a line"))
    with open("/dev/full", "w") as full, monkeypatch.context() as patched:  # noqa: PTH123
        patched.setattr(sys, "stdout", full)
        status = cli.main(["history"])

    assert status == 1
    assert capsys.readouterr().err == "stdout could not be written: No space left on device\n"


def test_characters_that_a_terminal_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_main", prints("ü → 512"))
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))

    assert cli.main(["history"]) == 0
    assert printed.getvalue() == b"\\xfc \\u2192 512\n"


def test_a_command_runs_where_stdout_and_stderr_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_main", prints("a line"))
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    assert cli.main(["history"]) == 0


def test_a_file_that_fails_unexpectedly_is_a_line_and_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_given: argparse.Namespace) -> int:
        raise PermissionError(13, "Permission denied", "there/a.json")

    status = ended("vlmlatency", fail, argparse.Namespace())

    assert status == 1
    assert capsys.readouterr().err == "vlmlatency: there/a.json: Permission denied\n"


def prints(text: str) -> Callable[[list[str]], int]:
    def main(_words: list[str]) -> int:
        tell(text)
        return 0

    return main


def test_a_closed_pipe_leaves_nothing_on_the_way_out(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pytest_vlmlatency --help | true; echo ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [("compare", "a", "b", "--markdown", "out/"), ("compare", "a", "b", "--verdict", ".")],
)
def test_a_folder_is_no_file_to_write(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)

    assert "expected a file to write, but" in capsys.readouterr().err
