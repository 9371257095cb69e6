"""What thousands of cases cost: work in proportion to their number."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.gate import gate
from pytest_vlmlatency.gate.gate import GateRequest, judge_run
from pytest_vlmlatency.history.run_files import write_run
from tests.gate.runs import RunsInMemory, a_noisy_case, a_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from pytest_vlmlatency.records import Run


def n_lines_run(act: Callable[[], object]) -> int:
    """Return how many lines of the package an action runs, each time that it runs them."""
    n_lines = 0

    def traced(frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        nonlocal n_lines
        if "pytest_vlmlatency" not in frame.f_code.co_filename:
            return None
        n_lines += event == "line"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        act()
    finally:
        sys.settrace(before)
    return n_lines


def runs(n_cases: int) -> tuple[Run, Run]:
    """Return two runs; every other case is slower in the second, and half of its tests are new."""
    before, after = (
        [
            replace(
                a_noisy_case(index, n_rounds=3, slower={"vision_ms": slower * (index % 2)}),
                id=f"{folder}/test_{index % 7}.py::test_x[{index}]",
                name=f"test_x[{index % 5}]",
            )
            for index in range(n_cases)
        ]
        for folder, slower in (("tests", 0.0), ("tests", 0.5))
    )
    new = [replace(case, id=f"new/{case.id}") for case in after]
    return a_run(1, before), a_run(61, [*after, *new])


@pytest.mark.parametrize("option", [[], ["--all"]])
def test_comparing_twice_as_many_cases_is_twice_the_work(tmp_path: Path, option: list[str]) -> None:
    def compared(n_cases: int) -> Callable[[], object]:
        paths = [tmp_path / f"{name}{n_cases}.json" for name in ("before", "after")]
        for run, path in zip(runs(n_cases), paths, strict=True):
            write_run(run, path)
        return lambda: cli.main(["compare", *map(str, paths), *option])

    few, many = compared(100), compared(200)
    few()  # modules are imported, and the interpreter's caches filled

    assert n_lines_run(many) < 2.1 * n_lines_run(few)


def test_judging_twice_as_many_cases_after_a_renamed_file_is_twice_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gate, "renamed_files", lambda *_: {"new/tests/test_0.py": "old.py"})

    def gated(n_cases: int) -> Callable[[], object]:
        before, after = runs(n_cases)
        request = GateRequest(
            root=tmp_path, today=date(2026, 11, 21), no_pairs_because="it is one machine"
        )
        return lambda: judge_run(after, RunsInMemory([before]), request, open_pairs=None)

    few, many = gated(100), gated(200)
    few()

    assert n_lines_run(many) < 2.1 * n_lines_run(few)
