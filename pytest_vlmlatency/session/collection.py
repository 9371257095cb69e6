"""The tests that were collected, accepted or refused before any of them runs.

Owns what is an error this early, and how it travels: a worker of pytest-xdist cannot end the run
itself, so it sends the reason to the controller, which does.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.case_ids import has_address, name_in_file
from pytest_vlmlatency.errors import NoAccelerator, UsageProblem
from pytest_vlmlatency.machine.turns import turns_folder
from pytest_vlmlatency.options import marker_layer, merge_options
from pytest_vlmlatency.session.delivery import USAGE_PROBLEM
from pytest_vlmlatency.session.keeping import history_of
from pytest_vlmlatency.session.settings import FIXTURE, chosen_device, said_of
from pytest_vlmlatency.terms import check_effect

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def accept(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Raise UsageError if a test asks for what cannot be; a worker runs none and says why."""
    _leave_out_warning(config, items)
    try:
        check_collected(config, items)
        _warn_of_addresses(items)
    except pytest.UsageError as problem:
        output = getattr(config, "workeroutput", None)
        if output is None:
            raise
        output[USAGE_PROBLEM] = str(problem)
        items.clear()


def check_collected(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Raise UsageError for the first collected test that asks for what cannot be."""
    try:
        for item in items:
            _check_markers(item)
            _check_terms(item)
        _check_ids(item for item in items if FIXTURE in getattr(item, "fixturenames", ()))
        if not config.getoption("collectonly", None):
            chosen_device(config)
            _check_outputs(config)
            history_of(config)
            turns_folder()
    except (UsageProblem, NoAccelerator) as problem:
        raise pytest.UsageError(str(problem)) from problem


def _check_ids(items: Iterable[pytest.Item]) -> None:
    """Refuse two tests under one id, of which a run would keep one; a test may be there twice."""
    known: dict[tuple[Path, str], tuple[object, ...]] = {}
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "id", None)
        own = (*item.location, parameters)
        other = known.setdefault((item.path, item.nodeid), own)
        if other != own:
            raise UsageProblem(
                f"two tests that measure have the id {item.nodeid}: {_told(other)}, and "
                f"{_told(own)}; expected an id for each, under which a run keeps its case: let no "
                f"conftest or plugin give both the same one"
            )


def _told(of_test: tuple[object, ...]) -> str:
    file, line, name, _parameters = of_test
    return f"{name} in {file}" if line is None else f"{name} in {file}, line {int(str(line)) + 1}"


def _check_outputs(config: pytest.Config) -> None:
    """Refuse a histogram that could not be drawn, before the time for it is spent."""
    if config.getoption("benchmark_histogram", None) and find_spec("pygal") is None:
        raise UsageProblem(
            "--benchmark-histogram needs the package pygal, which is not installed; "
            "install pytest-benchmark[histogram]"
        )


def _leave_out_warning(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Stop pytest-benchmark from saying that xdist disabled benchmarks, if all of them are ours.

    Ours take turns on their device, so they are measured with workers too.
    """
    names = [getattr(item, "fixturenames", ()) for item in items]
    session = getattr(config, "_benchmarksession", None)
    if session is not None and all(FIXTURE in asked for asked in names if "benchmark" in asked):
        session.xdist_benchmark_found = False


def _warn_of_addresses(items: Iterable[pytest.Item]) -> None:
    """Warn of tests named by the address of an object; UsageError where warnings are errors."""
    measuring = (item for item in items if FIXTURE in getattr(item, "fixturenames", ()))
    found = [item for item in measuring if has_address(item)]
    if not found:
        return
    others = f", and {len(found) - 1} more" if len(found) > 1 else ""
    warning = pytest.PytestWarning(
        f"{found[0].nodeid}{others}: the id holds the address of an object, which differs in each "
        f"process; histories and gates call the test {name_in_file(found[0])}, by the place among "
        f"its parameters. Give the parameters names: pytest.param(..., id='small'), or ids=[...]"
    )
    try:
        found[0].warn(warning)
    except pytest.PytestWarning as problem:
        raise pytest.UsageError(str(problem)) from None


def _check_markers(item: pytest.Item) -> None:
    try:
        for mark in item.iter_markers(FIXTURE):
            marker_layer(mark.args, mark.kwargs)
    except UsageProblem as problem:
        raise UsageProblem(f"{item.nodeid}: {problem}") from None


def _check_terms(item: pytest.Item) -> None:
    """Refuse what only a marker and the command line together make impossible."""
    if not any("min_effect" in mark.kwargs for mark in item.iter_markers(FIXTURE)):
        return
    try:
        check_effect(merge_options(*said_of(item)).terms)
    except UsageProblem as problem:
        raise UsageProblem(f"{item.nodeid}: {problem}") from None
