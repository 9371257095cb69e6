"""Every run that measured is kept: where, when not, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.history.run_files import run_in_file
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.records import GateStatus
from pytest_vlmlatency.session import keeping
from tests.projects import in_subprocess, project, table_of

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.history.names import RunName


@pytest.fixture(autouse=True)
def _outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (keeping.GITHUB_EVENT, *keeping.NUMBERS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    """A repository with one commit of a project that measures."""
    project(pytester)
    git(pytester.path, "init", "--quiet", "--initial-branch=main")
    git(pytester.path, "add", ".")
    git(pytester.path, "commit", "--quiet", "--message=first")
    return pytester.path


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A name", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def names_in(folder: Path) -> tuple[RunName, ...]:
    return open_store(folder).index().names


def test_a_run_is_kept_in_the_repository_by_default_and_git_sees_nothing_of_it(
    pytester: pytest.Pytester, repository: Path
) -> None:
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")

    (name,) = names_in(repository / ".vlm_latency")
    assert table_of(result)[-1] == f"Kept in .vlm_latency as run {name.id}."
    assert name.commit == git(repository, "rev-parse", "HEAD").strip()
    assert (name.is_dirty, name.is_pull_request) == (False, False)
    assert "vlm_latency" not in git(repository, "status", "--porcelain")


def test_outside_of_a_repository_nothing_is_kept_unless_asked_for(
    pytester: pytest.Pytester,
) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess()

    assert table_of(result)[-1].startswith("Not kept in a history: no git repository")
    assert not (pytester.path / ".vlm_latency").exists()


def test_an_option_with_a_path_elsewhere_does_not_move_the_history(
    pytester: pytest.Pytester, repository: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    written = other / "run.json"
    given = ("--vlm-json", str(written))

    first = pytester.runpytest_inprocess(*given)
    second = pytester.runpytest_inprocess(*given)  # this one finds a path that exists
    third = pytester.runpytest_inprocess(*given, f"--rootdir={other}")

    names = names_in(repository / ".vlm_latency")
    assert [name.commit for name in names] == [git(repository, "rev-parse", "HEAD").strip()] * 3
    assert run_in_file(written).cases[0].id == "test_x.py::test_caption"
    assert not (other / ".vlm_latency").exists()
    warned = ["Warning, pytest's rootdir is" in run.stdout.str() for run in (first, second, third)]
    assert warned == [False, True, True]


def test_tests_of_a_repository_are_kept_there_wherever_pytest_is_called(
    pytester: pytest.Pytester, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    pytester.runpytest_inprocess("-c", "/dev/null", str(repository)).assert_outcomes(passed=1)

    assert len(names_in(repository / ".vlm_latency")) == 1


def test_with_a_failed_history_and_a_failed_gate_the_status_is_that_of_the_report(
    pytester: pytest.Pytester, repository: Path
) -> None:
    (repository / "kept").write_text("a file")
    git(repository, "commit", "--quiet", "--allow-empty", "--message=second")

    result = pytester.runpytest_inprocess(
        "--vlm-gate", "--vlm-no-confirm", "--vlm-history=kept", "--vlm-verdict=verdict.json"
    )

    written = json.loads((repository / "verdict.json").read_text())
    assert result.ret == written["status"] == GateStatus.NOT_APPLIED
    assert "--vlm-history: this run could not be kept" in result.stdout.str()


def test_a_named_place_is_where_the_run_is_kept(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--vlm-history=kept/here")

    (name,) = names_in(pytester.path / "kept/here")
    assert table_of(result)[-1] == f"Kept in kept/here as run {name.id}."
    assert name.commit is None


def test_a_place_of_the_ini_file_is_relative_to_it(pytester: pytest.Pytester) -> None:
    project(pytester)
    pytester.makeini("[pytest]\nvlm_history = kept\n")
    below = pytester.mkdir("below")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        pytester.runpytest_inprocess("../test_x.py").assert_outcomes(passed=1)

    assert len(names_in(pytester.path / "kept")) == 1


@pytest.mark.parametrize("line", ["vlm_history = none", "vlm_history_readonly = true"])
def test_the_ini_file_can_switch_keeping_off(
    pytester: pytest.Pytester, repository: Path, line: str
) -> None:
    pytester.makeini(f"[pytest]\n{line}\n")

    pytester.runpytest_inprocess().assert_outcomes(passed=1)

    assert not (repository / ".vlm_latency").exists()


def test_none_keeps_nothing_and_says_nothing(pytester: pytest.Pytester, repository: Path) -> None:
    result = pytester.runpytest_inprocess("--vlm-history=none")

    assert "ept in" not in result.stdout.str()
    assert not (repository / ".vlm_latency").exists()


def test_a_readonly_history_is_said_to_be_and_gets_no_run(
    pytester: pytest.Pytester, repository: Path
) -> None:
    result = pytester.runpytest_inprocess("--vlm-history-readonly")

    assert result.ret == pytest.ExitCode.OK
    assert table_of(result)[-1] == "Not kept in .vlm_latency: --vlm-history-readonly."
    assert not (repository / ".vlm_latency").exists()


def test_a_run_that_cannot_be_kept_fails_says_so_and_is_put_aside(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "gettempdir", lambda: str(pytester.path))
    project(pytester)
    (pytester.path / "kept").write_text("a file")

    result = pytester.runpytest_inprocess("--vlm-history=kept")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["test_caption  10.00*"])
    last = table_of(result)[-1]
    assert last.startswith("--vlm-history: this run could not be kept: ")
    (aside,) = pytester.path.glob("vlmlatency-*.json")
    assert last.endswith(
        f"; it lies in {aside}, from where `vlmlatency import` keeps it; name another place, or "
        "'none'"
    )
    assert len(run_in_file(aside).cases) == 1


def test_a_run_that_cannot_be_put_aside_either_says_what_it_can(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "gettempdir", lambda: "/no/such/folder")
    project(pytester)
    (pytester.path / "kept").write_text("a file")

    result = pytester.runpytest_inprocess("--vlm-history=kept")

    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert table_of(result)[-1].endswith("/kept'; name another place, or 'none'")


def test_a_place_that_nothing_reaches_ends_the_run_before_any_test(
    pytester: pytest.Pytester,
) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--vlm-history=nowhere://x")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "the history 'nowhere://x' cannot be opened" in result.stderr.str()


def test_an_empty_place_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--vlm-history=")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "expected a folder, a URL or 'none'" in result.stderr.str()


def test_nothing_is_kept_of_a_run_that_measured_nothing(
    pytester: pytest.Pytester, repository: Path
) -> None:
    pytester.runpytest_inprocess("--benchmark-disable").assert_outcomes(passed=1)

    assert not (repository / ".vlm_latency").exists()


def test_the_run_of_workers_is_kept_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(
        pytester,
        """\
        @pytest.mark.parametrize("number", [1, 2, 3])
        def test_caption(vlm_latency, number):
            vlm_latency(model.generate)
        """,
    )

    in_subprocess(pytester, monkeypatch, "-n2", "--vlm-history=kept").assert_outcomes(passed=3)

    store = open_store(pytester.path / "kept")
    (name,) = store.index().names
    assert len(store.read_whole(name).cases) == 3


def test_a_run_of_a_pull_request_is_named_one(
    pytester: pytest.Pytester, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_EVENT_NAME", "pull_request")
    (repository / "test_x.py").write_text((repository / "test_x.py").read_text() + "\n")

    pytester.runpytest_inprocess()

    (name,) = names_in(repository / ".vlm_latency")
    assert (name.is_dirty, name.is_pull_request) == (True, True)
