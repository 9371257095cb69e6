from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import whole_files
from pytest_vlmlatency.history.run_files import run_in_file
from pytest_vlmlatency.machine import turns
from tests.projects import project, table_of

if TYPE_CHECKING:
    from pathlib import Path


def test_the_run_is_saved_whole_and_said_to_be(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--vlm-json=run.json")

    run = run_in_file(pytester.path / "run.json")
    assert [case.id for case in run.cases] == ["test_x.py::test_caption"]
    assert datetime.fromisoformat(run.started_at).tzinfo is not None
    assert run.environment.versions["pytest"] == pytest.__version__
    assert (run.commit, run.lost) == (None, ())
    assert table_of(result)[-1] == "Wrote 1 case to run.json."


def test_a_failing_test_leaves_the_cases_that_were_measured(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            vlm_latency(model.generate)

        def test_other():
            assert False
        """,
    )

    result = pytester.runpytest_inprocess("--vlm-json=run.json")

    result.assert_outcomes(passed=1, failed=1)
    assert len(json.loads((pytester.path / "run.json").read_text())["cases"]) == 1


def test_a_run_that_measured_nothing_writes_no_file_and_says_so(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_other():\n    pass\n")
    (pytester.path / "run.json").write_text("an earlier run")

    result = pytester.runpytest_inprocess("--vlm-json=run.json")

    assert result.ret == pytest.ExitCode.OK
    assert (pytester.path / "run.json").read_text() == "an earlier run"
    result.stdout.fnmatch_lines(
        [
            "*vlm latency: nothing measured*",
            "--vlm-json: nothing was measured, so run.json was not written.",
        ]
    )


def test_a_run_that_cannot_be_written_fails_and_still_shows_its_table(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_draft: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files, "put_in_place", full)
    project(pytester)

    result = pytester.runpytest_inprocess("--vlm-json=run.json")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(
        [
            "test_caption  10.00*",
            "--vlm-json: run.json could not be written: No space left on device; name a place *",
        ]
    )


def test_a_long_wait_for_the_device_is_said(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_acquire", lambda *_: 12_345.0)
    project(pytester)

    result = pytester.runpytest_inprocess()

    assert "Waited 12 s for others on the same device to end." in table_of(result)
