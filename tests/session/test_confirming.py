from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired import pairs
from pytest_vlmlatency.session import gating
from pytest_vlmlatency.session.gating import free_memory, pairs_opener
from tests.repositories import repository

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    """Collect what pairs would have been opened with, instead of opening them."""
    calls: list[dict[str, object]] = []

    def open_none(root: object, **arguments: object) -> object:
        calls.append({"root": root, **arguments})
        raise NotConfirmed("the test opens none")

    monkeypatch.setattr(gating, "open_pairs", open_none)
    yield calls
    assert pairs.open_pairs is not open_none


def open_with(pytester: pytest.Pytester, *args: str) -> None:
    opener = pairs_opener(pytester.parseconfig(*args))
    with pytest.raises(NotConfirmed, match="opens none"), opener("abc"):
        pass


def test_the_options_reach_the_pairs(
    pytester: pytest.Pytester, given: list[dict[str, object]]
) -> None:
    repository(pytester.path, {"lib/a.py": "", "src/b.py": ""})

    open_with(
        pytester,
        "--vlm-confirm-path=lib",
        "--vlm-confirm-path=src",
        "--vlm-confirm-setup=make",
        "--vlm-confirm-time=30",
    )

    wanted = {name: given[0][name] for name in ("root", "baseline", "paths", "setup")}
    assert wanted == {
        "root": pytester.path,
        "baseline": "abc",
        "paths": ["lib", "src"],
        "setup": "make",
    }
    assert given[0]["time_limit_s"] == 30.0


def test_the_ini_file_is_asked_where_the_command_line_says_nothing(
    pytester: pytest.Pytester, given: list[dict[str, object]]
) -> None:
    repository(pytester.path, {"lib/a.py": "", "src/b.py": ""})
    pytester.makeini(
        "[pytest]\nvlm_confirm_path =\n  lib\n  src\nvlm_confirm_setup = make\n"
        "vlm_confirm_time = 30\n"
    )

    open_with(pytester)

    assert given[0]["paths"] == ["lib", "src"]
    assert given[0]["setup"] == "make"
    assert given[0]["time_limit_s"] == 30.0


def test_without_options_code_is_at_the_root_and_in_src_for_ten_minutes(
    pytester: pytest.Pytester, given: list[dict[str, object]]
) -> None:
    repository(pytester.path, {"src/b.py": ""})

    open_with(pytester)

    assert given[0]["paths"] == (".", "src")
    assert given[0]["setup"] is None
    assert given[0]["time_limit_s"] == 600.0


@pytest.mark.parametrize(
    ("args", "ini", "why"),
    [
        (["--vlm-no-confirm"], "", "--vlm-no-confirm"),
        ([], "vlm_confirm = false", "vlm_confirm is false in the ini file"),
    ],
)
def test_a_confirmation_that_is_not_wanted_is_refused_by_what_was_said(
    pytester: pytest.Pytester, args: list[str], ini: str, why: str
) -> None:
    repository(pytester.path, {"src/b.py": ""})
    pytester.makeini(f"[pytest]\n{ini}\n")

    with pytest.raises(NotConfirmed, match=f"^{why}$"):
        pairs_opener(pytester.parseconfig(*args))


def test_the_command_line_wants_it_whatever_the_ini_file_says(
    pytester: pytest.Pytester, given: list[dict[str, object]]
) -> None:
    repository(pytester.path, {"src/b.py": ""})
    pytester.makeini("[pytest]\nvlm_confirm = false\n")

    open_with(pytester, "--vlm-confirm")

    assert len(given) == 1


def test_a_project_without_repository_cannot_be_confirmed(pytester: pytest.Pytester) -> None:
    with pytest.raises(NotConfirmed, match="is in no git repository"):
        pairs_opener(pytester.parseconfig())


def test_what_the_error_of_a_failed_test_held_is_let_go() -> None:
    sys.last_value, sys.last_traceback = ValueError(), None

    free_memory()

    assert not hasattr(sys, "last_value")
    assert not hasattr(sys, "last_traceback")
