"""What a case is called: unique in the repository that pytest runs in, and stable between runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.projects import FAKE_ENGINE, MEASURED, MODEL, project

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ANY_NAMES = ("--import-mode=importlib", "--vlm-json=run.json", "--vlm-history=none")


def suites(root: Path, *folders: str) -> None:
    """Write the same test into each folder, with the conftest that takes over the engine."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "conftest.py").write_text(FAKE_ENGINE)
        (root / folder / "test_x.py").write_text(MODEL + "\n\n" + MEASURED)


def repositories(*folders: Path) -> None:
    """Let folders look like repositories: a submodule has a file there."""
    for folder in folders:
        (folder / ".git").write_text("gitdir: elsewhere\n")


def submodules(root: Path, *names: str) -> None:
    repositories(root, *(root / name for name in names))
    lines = (f'[submodule "{name}"]\n\tpath = {name}\n' for name in names)
    (root / ".gitmodules").write_text("".join(lines))


def cases_in(root: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((root / "run.json").read_text())["cases"]
    return cases


def ids(cases: Iterable[dict[str, Any]]) -> list[str]:
    return [case["id"] for case in cases]


def test_the_same_test_in_two_submodules_is_two_cases(pytester: pytest.Pytester) -> None:
    suites(pytester.path, "one/tests", "two/tests")
    submodules(pytester.path, "one", "two")

    pytester.runpytest_inprocess(*ANY_NAMES).assert_outcomes(passed=2)

    assert ids(cases_in(pytester.path)) == [
        "one/tests/test_x.py::test_caption",
        "two/tests/test_x.py::test_caption",
    ]


def test_the_same_test_in_two_repositories_below_a_folder_is_two_cases(
    pytester: pytest.Pytester,
) -> None:
    suites(pytester.path, "one/tests", "two/tests")
    repositories(pytester.path / "one", pytester.path / "two")

    pytester.runpytest_inprocess(*ANY_NAMES).assert_outcomes(passed=2)

    assert len(set(ids(cases_in(pytester.path)))) == 2


def test_the_same_test_in_two_folders_outside_of_the_rootdir_is_two_cases(
    pytester: pytest.Pytester,
) -> None:
    suites(pytester.path, "one/tests", "two/tests")
    (pytester.path / "home").mkdir()
    (pytester.path / "home" / "pytest.ini").write_text("[pytest]\n")
    given = ("-c", "home/pytest.ini", "one/tests", "two/tests")

    pytester.runpytest_inprocess(*ANY_NAMES, *given).assert_outcomes(passed=2)

    assert ids(cases_in(pytester.path)) == [
        "../one/tests/test_x.py::test_caption",
        "../two/tests/test_x.py::test_caption",
    ]


def test_an_id_does_not_depend_on_the_folder_of_the_configuration(
    pytester: pytest.Pytester,
) -> None:
    suites(pytester.path, "package/checks")
    repositories(pytester.path)
    (pytester.path / "package" / "pytest.ini").write_text("[pytest]\n")

    pytester.runpytest_inprocess(*ANY_NAMES, "package").assert_outcomes(passed=1)
    of_package = ids(cases_in(pytester.path))
    pytester.runpytest_inprocess(*ANY_NAMES, "-c", "/dev/null", "package").assert_outcomes(passed=1)

    assert of_package == ids(cases_in(pytester.path)) == ["package/checks/test_x.py::test_caption"]


def test_a_case_of_a_submodule_knows_the_id_that_earlier_versions_gave_it(
    pytester: pytest.Pytester,
) -> None:
    suites(pytester.path, "one/tests", "own")
    submodules(pytester.path, "one")

    pytester.runpytest_inprocess(*ANY_NAMES).assert_outcomes(passed=2)

    assert {case["id"]: case["former_id"] for case in cases_in(pytester.path)} == {
        "one/tests/test_x.py::test_caption": "tests/test_x.py::test_caption",
        "own/test_x.py::test_caption": None,
    }


@pytest.mark.parametrize("twin", ["two/tests", "tests"])
def test_an_id_that_earlier_versions_gave_to_several_tests_is_none_of_a_case(
    pytester: pytest.Pytester, twin: str
) -> None:
    suites(pytester.path, "one/tests", "two", twin)
    submodules(pytester.path, "one", "two")

    pytester.runpytest_inprocess(*ANY_NAMES, "one").assert_outcomes(passed=1)

    assert [case["former_id"] for case in cases_in(pytester.path)] == [None]


RENAMED = """\

def pytest_collection_modifyitems(items):
    for name in ("_id", "_nodeid"):  # pytest 9.2's, and what it was before
        for item in items:
            if hasattr(item, name):
                setattr(item, name, getattr(items[0], name))
"""

TWO = """\
def test_one(vlm_latency):
    vlm_latency(model.generate)

def test_two(vlm_latency):
    vlm_latency(model.generate)
"""


def test_two_tests_that_a_plugin_gave_one_id_are_refused_before_any_test(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, TWO, conftest=RENAMED)

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "have the id test_x.py::test_one: test_one in test_x.py, line" in result.stderr.str()


def test_a_test_that_was_asked_for_twice_is_measured_twice_and_kept_once(
    pytester: pytest.Pytester,
) -> None:
    project(pytester)

    twice = ("--keep-duplicates", "test_x.py", "test_x.py")
    pytester.runpytest_inprocess(*ANY_NAMES[1:], *twice).assert_outcomes(passed=2)

    assert ids(cases_in(pytester.path)) == ["test_x.py::test_caption"]
