"""The command line itself: what it is called, how light it is, how it helps."""

import subprocess
import sys
import tomllib

import pytest

import pytest_vlmlatency
from pytest_vlmlatency import cli
from pytest_vlmlatency.inspection.request import DEFAULT_PROMPT
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
