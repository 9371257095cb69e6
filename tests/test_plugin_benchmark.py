"""pytest-benchmark's outputs, asked for by its own options, over phases of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vlmlatency.session import collection
from tests.projects import in_subprocess, project

if TYPE_CHECKING:
    from pathlib import Path

PHASES = ["decode", "per_step", "prefill", "total", "vision"]


def saved(folder: Path) -> list[dict[str, Any]]:
    """Return the runs that were saved, oldest first."""
    files = sorted(folder.glob(".benchmarks/*/*.json"))
    return [json.loads(path.read_text()) for path in files]


def names_of(run: dict[str, Any]) -> list[str]:
    return sorted(entry["fullname"] for entry in run["benchmarks"])


def test_a_plain_run_shows_our_table_only(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess()

    assert "benchmark '" not in result.stdout.str()


def test_autosave_saves_an_entry_for_each_phase(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--benchmark-autosave")

    result.assert_outcomes(passed=1)
    assert names_of(saved(pytester.path)[0]) == [
        f"test_x.py::test_caption:{phase}" for phase in PHASES
    ]
    result.stdout.fnmatch_lines(["*benchmark 'prefill': 1 tests*"])


def test_entries_of_workers_are_saved_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        @pytest.mark.parametrize("size", ["low", "high"])
        def test_caption(vlm_latency, size):
            vlm_latency(model.generate)
        """,
    )

    result = in_subprocess(pytester, monkeypatch, "-n2", "--benchmark-autosave")

    result.assert_outcomes(passed=2)
    assert names_of(saved(pytester.path)[0]) == sorted(
        f"test_x.py::test_caption:{phase}[{size}]" for phase in PHASES for size in ("low", "high")
    )


def test_compare_holds_each_phase_against_the_saved_one(pytester: pytest.Pytester) -> None:
    project(pytester)
    pytester.runpytest_inprocess("--benchmark-save=first")

    result = pytester.runpytest_inprocess("--benchmark-compare=0001")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_caption:decode (0001_first)*", "test_caption:decode (NOW)*"])


def test_pytest_benchmarks_own_command_compares_saved_phases(pytester: pytest.Pytester) -> None:
    project(pytester)
    pytester.runpytest_inprocess("--benchmark-save=first")
    pytester.runpytest_inprocess("--benchmark-save=second")

    command = [sys.executable, "-m", "pytest_benchmark", "compare", "--group-by=func"]
    result = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=True)

    assert "benchmark 'test_caption:decode': 2 tests" in result.stdout
    assert len(saved(pytester.path)) == 2


def test_the_json_of_pytest_benchmark_has_every_sample(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester)

    in_subprocess(pytester, monkeypatch, "--benchmark-json=out.json")  # 5.2 leaves it open

    run = json.loads((pytester.path / "out.json").read_text())
    decode = next(entry for entry in run["benchmarks"] if entry["group"] == "decode")
    assert decode["stats"]["data"] == [0.015, 0.015]


def test_columns_ask_for_the_tables_of_pytest_benchmark(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--benchmark-columns=median")

    result.stdout.fnmatch_lines(["*benchmark 'vision': 1 tests*"])


@pytest.mark.skipif(find_spec("pygal") is None, reason="pygal is not installed")
def test_a_histogram_is_drawn_for_each_phase(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester)

    result = in_subprocess(pytester, monkeypatch, "--benchmark-histogram=out")

    result.assert_outcomes(passed=1)
    assert sorted(path.name for path in pytester.path.glob("out-*.svg")) == [
        f"out-{phase}.svg" for phase in PHASES
    ]


def test_a_histogram_without_its_package_is_refused_before_any_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "find_spec", lambda _name: None)
    project(pytester)

    result = pytester.runpytest_inprocess("--benchmark-histogram")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: --benchmark-histogram needs the package pygal, which is not installed; "
        "install pytest-benchmark[histogram]"
    )


CODSPEED = """
def pytest_addoption(parser):
    parser.addoption("--codspeed", action="store_true")

@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    object.__setattr__(config.option, "benchmark_disable", True)
"""
"""What pytest-codspeed does where its option is given."""


@pytest.mark.parametrize(
    ("conftest", "option", "named"),
    [
        ("", "--benchmark-disable", "--benchmark-disable"),
        (CODSPEED, "--codspeed", "--codspeed, by which pytest-codspeed disables pytest-benchmark"),
        (CODSPEED, "-q", "another plugin, which disabled pytest-benchmark"),
        ("", "--setup-only", "--setup-only"),
    ],
)
def test_a_run_in_which_measuring_is_off_names_what_switched_it_off(
    pytester: pytest.Pytester, conftest: str, option: str, named: str
) -> None:
    project(pytester, conftest=conftest)

    result = pytester.runpytest_inprocess(option, "--vlm-json=run.json")

    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    assert f"Measuring is off ({named}): 1 test ran without it." in result.stdout.lines
    assert not (pytester.path / "run.json").exists()


def test_a_fixture_that_another_plugin_puts_in_the_place_of_benchmark_keeps_nothing_from_measuring(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, conftest="@pytest.fixture\ndef benchmark():\n    return None\n")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*vlm latency: 1 case on cpu*"])
