"""`pytest --vlm-export`: a record for each kept call, with and without workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.export import read_records
from tests.projects import in_subprocess, project, table_of

if TYPE_CHECKING:
    from pathlib import Path

TWO = """\
def test_caption(vlm_latency):
    vlm_latency(model.generate)

def test_chat(vlm_latency):
    vlm_latency(model.generate)
"""


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))


def test_a_run_is_exported_and_said_to_be(pytester: pytest.Pytester) -> None:
    project(pytester, TWO)

    result = pytester.runpytest_inprocess("--vlm-export=records")

    folder = pytester.path / "records"
    assert _files(folder) == ["test_caption/default.json", "test_chat/default.json"]
    n_records = len(list(read_records(folder)))
    assert table_of(result)[-1] == f"Exported {n_records} records to records."


def test_a_second_run_is_added(pytester: pytest.Pytester) -> None:
    project(pytester)
    pytester.runpytest_inprocess("--vlm-export=records.jsonl")
    n_first = len(list(read_records(pytester.path / "records.jsonl")))

    pytester.runpytest_inprocess("--vlm-export=records.jsonl")

    assert len(list(read_records(pytester.path / "records.jsonl"))) == 2 * n_first


def test_workers_are_exported_as_one_run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester, TWO)

    result = in_subprocess(pytester, monkeypatch, "-n", "2", "--vlm-export=records")

    result.assert_outcomes(passed=2)
    reader = read_records(pytester.path / "records")
    runs = {record["source"].partition("/")[0] for record in reader}
    assert (len(runs), len(reader.machines), dict(reader.left_out)) == (1, 1, {})
    assert _files(pytester.path / "records") == [
        "test_caption/default.json",
        "test_chat/default.json",
    ]


def test_a_run_that_measured_nothing_exports_nothing_and_says_so(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_other():\n    pass\n")

    result = pytester.runpytest_inprocess("--vlm-export=records")

    assert result.ret == pytest.ExitCode.OK
    assert not (pytester.path / "records").exists()
    result.stdout.fnmatch_lines(["--vlm-export: nothing was measured, so records was not written."])


def test_records_that_cannot_be_written_fail_the_run(pytester: pytest.Pytester) -> None:
    project(pytester)
    (pytester.path / "records.json").write_text("mine")

    result = pytester.runpytest_inprocess("--vlm-export=records.json")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert (pytester.path / "records.json").read_text() == "mine"
    result.stdout.fnmatch_lines(["--vlm-export: records.json cannot be kept: no whole JSON*"])


@pytest.mark.parametrize("value", ["nowhere/records", "test_x.py", ""])
def test_a_place_that_cannot_be_is_a_usage_error(pytester: pytest.Pytester, value: str) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess(f"--vlm-export={value}")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --vlm-export: expected a *"])
