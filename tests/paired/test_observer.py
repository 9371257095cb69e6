from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.paired.observer import (
    ASKED,
    MODULE,
    NOT_COLLECTED,
    modules_with_files,
)
from tests.projects import TWICE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEASURED = """\
import pytest


@pytest.mark.parametrize("size", ["low", "high"])
def test_caption(vlm_latency, size):
    vlm_latency.case = size
"""
PLAIN = "def test_caption():\n    pass\n\n\ndef test_page():\n    pass\n"
OUTSIDE = ("-c", "config/pytest.ini")
"""The rootdir is the folder of the ini file: tests beside it have node ids without a path."""
SHARD = """\
def pytest_collection_modifyitems(config, items):
    config.hook.pytest_deselected(items=items[:])
    del items[:]
"""


def observed(
    pytester: pytest.Pytester, tests: Sequence[str], *args: str, where: Path | None = None
) -> dict[str, object]:
    """Run pytest with the observer; return what it told."""
    root = where or pytester.path
    asked = {"root": str(root), "tests": list(tests), "told": str(root / "told.json")}
    (root / "asked.json").write_text(json.dumps(asked))
    pytester.runpytest_inprocess(
        "-p", MODULE, ASKED, str(root / "asked.json"), "-p", "no:cacheprovider", *args
    )
    told: dict[str, object] = json.loads((root / "told.json").read_text())
    return told


def test_a_module_that_made_its_path_up_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = ModuleType("made_up")
    made_up.__file__ = "_ops.py"
    monkeypatch.setitem(sys.modules, "made_up", made_up)

    modules = modules_with_files()

    assert "made_up" not in modules
    assert modules["pytest"] == pytest.__file__


OTHER_ARGUMENTS = """\
import pytest


class Picks:
    def pytest_configure(self, config):
        config.args = ["test_y.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    session.config.args = ["test_y.py"]


def pytest_configure(config):
    config.pluginmanager.register(Picks())
    config.args = []
"""
IGNORES = """\
def pytest_ignore_collect(collection_path):
    return collection_path.name in ("test_x.py", "below")
"""
LAST_WORD = """\
import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items):
    result = yield
    del items[:]
    return result
"""


@pytest.mark.parametrize("plugin", [SHARD, OTHER_ARGUMENTS, IGNORES, LAST_WORD])
def test_exactly_what_was_asked_for_runs_whatever_a_plugin_selects(
    pytester: pytest.Pytester, plugin: str
) -> None:
    pytester.makeconftest(plugin)
    failing = PLAIN.replace("pass", "assert False")
    pytester.makepyfile(test_x=failing, test_y=failing)
    pytester.mkdir("below").joinpath("test_z.py").write_text(failing)
    tests = ["test_x.py::test_page", "below/test_z.py::test_caption"]

    told = observed(pytester, tests, "test_x.py", "below/test_z.py")

    assert told["failed"] == dict.fromkeys(tests, "assert False")


def test_a_test_that_is_not_there_is_told_from_one_that_was_deselected(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(SHARD)
    pytester.makepyfile(test_x=PLAIN)

    told = observed(pytester, ["test_x.py::test_page", "test_x.py::test_gone"])

    assert told["failed"] == {"test_x.py::test_gone": NOT_COLLECTED}


@pytest.mark.parametrize(
    "selection", [("-k", "low"), ("--deselect", "test_x.py::test_caption[high]")]
)
def test_only_tests_that_are_selected_are_told_to_measure(
    pytester: pytest.Pytester, selection: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_x=MEASURED)

    told = observed(pytester, [], "--collect-only", *selection)

    assert told["measuring"] == ["test_x.py::test_caption[low]"]


def test_files_of_one_name_outside_of_the_rootdir_are_told_apart(
    pytester: pytest.Pytester,
) -> None:
    failing = PLAIN.replace("pass", "assert False", 1)
    for folder, text in {"a": PLAIN, "b": failing}.items():
        pytester.mkdir(folder).joinpath("test_x.py").write_text(text)
    pytester.mkdir("config").joinpath("pytest.ini").write_text("[pytest]\n")
    tests = [f"{folder}/test_x.py::test_caption" for folder in ("a", "b")]

    told = observed(
        pytester, tests, *OUTSIDE, "--import-mode=importlib", "a/test_x.py", "b/test_x.py"
    )

    assert told["failed"] == {"b/test_x.py::test_caption": "assert False"}


def test_a_file_that_cannot_be_collected_fails_its_own_tests_alone(
    pytester: pytest.Pytester,
) -> None:
    pytester.mkdir("config").joinpath("pytest.ini").write_text("[pytest]\n")
    pytester.makepyfile(test_x=PLAIN, test_y="raise ImportError('gone')\n")

    told = observed(
        pytester,
        ["test_x.py::test_page", "test_y.py::test_page"],
        *OUTSIDE,
        "--continue-on-collection-errors",
        "test_x.py",
        "test_y.py",
    )

    assert told["failed"] == {"test_y.py::test_page": "ImportError: gone"}


def test_a_test_that_passes_when_it_is_run_again_did_not_fail(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(TWICE)
    pytester.makepyfile(
        test_x="""\
        attempts = []

        def test_second():
            attempts.append(1)
            assert len(attempts) > 1

        def test_never():
            assert False
        """
    )

    told = observed(pytester, [])

    assert told["failed"] == {"test_x.py::test_never": "assert False"}
