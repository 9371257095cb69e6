from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.projects import WARNS_OF_ANY_WORKERS, in_subprocess, project, table_of

if TYPE_CHECKING:
    from pathlib import Path


def test_cases_of_two_workers_make_one_table_and_one_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        @pytest.mark.parametrize("size", ["low", "high"])
        def test_caption(vlm_latency, size):
            vlm_latency(model.generate)
            assert vlm_latency.case.worker in {"gw0", "gw1"}
        """,
    )

    result = in_subprocess(pytester, monkeypatch, "-n2", "--vlm-json=run.json")

    result.assert_outcomes(passed=2)
    run = json.loads((pytester.path / "run.json").read_text())
    assert sorted(case["name"] for case in run["cases"]) == [
        "test_caption[high]",
        "test_caption[low]",
    ]
    assert "vlm latency: 2 cases on cpu" in table_of(result)[0]
    assert "Wrote 2 cases to run.json." in table_of(result)
    assert run["lost"] == []
    is_warned = "Benchmarks are automatically disabled" in result.stderr.str()
    assert is_warned is WARNS_OF_ANY_WORKERS


def test_the_controller_of_workers_imports_no_torch(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        conftest="""\
        def pytest_unconfigure(config):
            if not hasattr(config, "workerinput"):
                import sys
                heavy = {"torch", "numpy", "transformers"} & set(sys.modules)
                print("the controller knows", sorted(heavy))
        """,
    )

    result = in_subprocess(pytester, monkeypatch, "-n1", "--vlm-json=run.json", is_new=True)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["the controller knows []"])


def test_a_worker_that_dies_loses_only_its_unsent_case_and_that_is_said(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        import os

        def test_sent(vlm_latency):
            vlm_latency(model.generate)

        def test_dies(vlm_latency):
            os._exit(9)

        def test_after(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    result = in_subprocess(pytester, monkeypatch, "-n1", "--vlm-json=run.json")

    result.assert_outcomes(passed=2, failed=1)
    run = json.loads((pytester.path / "run.json").read_text())
    assert [case["name"] for case in run["cases"]] == ["test_sent", "test_after"]
    assert run["lost"] == ["test_x.py::test_dies"]
    assert "Lost with its worker: test_x.py::test_dies" in table_of(result)


def test_a_wrong_marker_found_by_workers_ends_the_run_as_in_one_process(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(round=3)
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    result = in_subprocess(pytester, monkeypatch, "-n1")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: test_x.py::test_caption: @pytest.mark.vlm_latency does not know 'round'" in (
        result.stderr.str()
    )


def test_the_users_disable_reaches_the_workers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
            assert vlm_latency.case.is_measured is False
        """,
    )

    in_subprocess(pytester, monkeypatch, "-n1", "--benchmark-disable").assert_outcomes(passed=1)


def test_pytest_benchmark_still_warns_about_benchmarks_that_are_not_ours(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("def test_other(benchmark):\n    benchmark(abs, 1)\n")

    result = in_subprocess(pytester, monkeypatch, "-n1")

    assert "Benchmarks are automatically disabled" in result.stderr.str()


LOCKS = """\
from pytest_vlmlatency.machine.turns import turns_folder


def locks():
    return sorted({path.name.partition("@")[0] for path in turns_folder().glob("*@*")})


class Seeing(torch.nn.Module):
    def generate(self, **kwargs):
        return locks()


@pytest.fixture(scope="module")
def loaded():
    return locks()


def test_measured(vlm_latency, loaded):
    assert loaded == ["test"]
    assert vlm_latency(Seeing().generate) == ["measurement"]
    assert locks() == ["test"]


def test_other():
    assert locks() == {others}
"""


@pytest.mark.parametrize(("worker", "others"), [("gw0", ["test"]), (None, [])])
def test_whoever_shares_a_device_shows_its_tests_and_is_in_none_while_it_measures(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    worker: str | None,
    others: list[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for variable in ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.setenv(variable, "")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this test's own
    if worker is not None:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    project(pytester, LOCKS.replace("{others}", str(others)))

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_run_that_measures_nothing_takes_no_locks(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    pytester.makepyfile("def test_other():\n    pass\n")

    pytester.runpytest_inprocess().assert_outcomes(passed=1)

    assert not list(tmp_path.glob("vlmlatency-*"))
