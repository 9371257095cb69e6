"""`vlmlatency compare` and `vlmlatency accept`, as they are typed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.gate.pins import FOLDER, read_pins
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import file_of, open_store
from pytest_vlmlatency.records import Commit, Run, fingerprint_of
from pytest_vlmlatency.terms import gate_terms
from tests.gate.runs import ENVIRONMENT, a_noisy_case, a_run
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PASSED, USAGE, SLOWER, UNDECIDED, NOT_APPLIED = 0, 2, 10, 11, 12
MACHINE = fingerprint_of(ENVIRONMENT)
ELSEWHERE = replace(ENVIRONMENT, settings={"n_allowed_cores": 2, "n_threads": 4})


class Project:
    """A repository of two commits, with a history that a test fills."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.first = repository(root, {"a.txt": "first"})
        self.second = commit(root, {"a.txt": "second"})
        self.store = open_store(root / ".vlm_latency")
        self.n_runs = 0

    def keep(
        self,
        of: str,
        *,
        slower: Mapping[str, float] | None = None,
        is_dirty: bool = False,
        **fields: object,
    ) -> Run:
        """Keep a run of a commit."""
        self.n_runs += 1
        cases = [a_noisy_case(self.n_runs, slower=slower)]
        run = a_run(self.n_runs, cases, **fields)  # type: ignore[arg-type]  # by name
        run = replace(run, commit=Commit(id=of, branch="main", is_dirty=is_dirty))
        self.store.write(run)
        return run

    def keep_ten(self) -> None:
        """Keep ten runs of the first commit."""
        for _ in range(10):
            self.keep(self.first)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "project")
    monkeypatch.chdir(project.root)
    return project


def test_a_slower_run_ends_with_10_and_names_the_phase(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()
    project.keep(project.second, slower={"vision_ms": 0.2})

    status = cli.main(["compare", "HEAD~1", "last"])

    assert status == SLOWER
    assert "Baseline: HEAD~1: 10 runs" in capsys.readouterr().out


def test_a_renamed_file_of_tests_is_compared_with_its_former_runs(project: Project) -> None:
    write(project.root, {"tests/test_former.py": "# a file of tests\n" * 9})
    project.first = commit(project.root, {})
    git(project.root, "mv", "tests/test_former.py", "tests/test_x.py")
    project.second = commit(project.root, {})
    former = "tests/test_former.py::test_caption[low]"
    for number in range(1, 11):
        run = a_run(number, [replace(a_noisy_case(number), id=former)])
        before = Commit(id=project.first, branch="main", is_dirty=False)
        project.store.write(replace(run, commit=before))
    project.n_runs = 10
    slower = project.keep(project.second, slower={"vision_ms": 0.2})

    assert cli.main(["compare", "HEAD~1", slower.id]) == SLOWER


def test_a_git_that_does_not_answer_ends_with_12(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()
    project.keep(project.second)
    monkeypatch.setenv("PATH", "")

    assert cli.main(["compare", "main", "last"]) == NOT_APPLIED
    assert "install git" in capsys.readouterr().err


def test_an_unchanged_run_passes(project: Project) -> None:
    project.keep_ten()
    run = project.keep(project.second)

    assert cli.main(["compare", "HEAD~1", "HEAD"]) == PASSED
    assert cli.main(["compare", project.first, run.id]) == PASSED


def test_what_the_runs_cannot_tell_is_undecided_and_fails_under_strict(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep(project.first)
    project.keep(project.second, slower={"vision_ms": 0.03})

    assert cli.main(["compare", "HEAD~1", "last"]) == PASSED
    assert cli.main(["compare", "HEAD~1", "last", "--strict"]) == UNDECIDED
    assert "`vlmlatency ab` measures two commits now" in capsys.readouterr().out


def test_files_are_compared_too_and_outputs_are_written(project: Project) -> None:
    before = project.root / "before.json"
    after = project.root / "after.json"
    write_run(project.keep(project.first), before)
    write_run(project.keep(project.second), after)

    status = cli.main(
        ["compare", str(before), str(after), "--verdict", "verdict.json", "--markdown", "gate.md"]
    )

    assert status == PASSED
    assert json.loads((project.root / "verdict.json").read_text())["status"] == PASSED
    assert (project.root / "gate.md").read_text()


def test_another_machine_is_refused_with_what_differs_unless_it_is_asked_for(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()
    project.keep(project.second, environment=ELSEWHERE)

    refused = cli.main(["compare", "HEAD~1", "last"])
    said = capsys.readouterr().out
    compared = cli.main(["compare", "HEAD~1", "last", "--across-machines"])

    assert (refused, compared) == (NOT_APPLIED, PASSED)
    assert "another machine: threads: 1, then 4; --across-machines compares all the same" in said
    assert "Compared across machines, as was asked for: threads: 1, then 4" in (
        capsys.readouterr().out
    )


def test_a_run_without_a_measured_case_is_not_applied(project: Project) -> None:
    project.keep_ten()
    project.n_runs += 1
    empty = replace(project.keep(project.second), id="e" * 16, cases=())
    project.store.write(empty)

    assert cli.main(["compare", "HEAD~1", "e" * 16]) == NOT_APPLIED


def test_cases_that_a_run_lost_keep_it_from_being_applied(project: Project) -> None:
    project.keep_ten()
    project.keep(project.second, lost=("tests/test_x.py::test_dies",))

    assert cli.main(["compare", "HEAD~1", "last"]) == NOT_APPLIED


def test_a_budget_holds_for_a_stored_run_too(project: Project) -> None:
    project.keep_ten()
    terms = gate_terms(budget_ms={"total": 10})
    run = replace(project.keep(project.second), id="b" * 16)
    project.store.write(replace(run, cases=(a_noisy_case(77, terms=terms),)))

    assert cli.main(["compare", "HEAD~1", "b" * 16]) == SLOWER


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nothing-like-it", "last"), "no file and no run is called 'nothing-like-it'"),
        (("HEAD", "last"), "of which the history holds no clean run"),
        (("last", "last"), "last is the run itself; expected another one to compare it with"),
        (("accepted", "last"), f"no run was accepted for this machine ({MACHINE})"),
    ],
)
def test_what_names_no_run_is_refused_by_name(
    project: Project, capsys: pytest.CaptureFixture[str], words: tuple[str, str], problem: str
) -> None:
    project.keep_ten()

    assert cli.main(["compare", *words]) == USAGE
    assert problem in capsys.readouterr().err


def test_an_empty_history_has_no_last_run(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", "HEAD~1", "last"]) == USAGE
    assert "the history holds no run, so there is no last one" in capsys.readouterr().err


def test_an_accepted_run_is_pinned_with_its_reason_and_compared_with(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()

    accepted = cli.main(["accept", "HEAD~1", "--why", "release 1.2"])
    (pin,) = read_pins(project.root, MACHINE)
    said = capsys.readouterr().out
    project.keep(project.second, slower={"vision_ms": 0.2})
    compared = cli.main(["compare", "accepted", "last"])

    assert (accepted, compared) == (0, SLOWER)
    assert (pin.commit, pin.why, pin.cases) == (project.first, "release 1.2", None)
    assert said == (
        f"Accepted run {pin.run} of commit {project.first[:10]} for all cases, in "
        f".vlm_accepted/{MACHINE}.json: commit that file.\n"
    )


def test_a_reason_is_kept_as_typed_whatever_the_encoding_of_arguments(project: Project) -> None:
    project.keep_ten()
    as_python_has_it = "für 512".encode().decode("ascii", "surrogateescape")  # in a locale of ASCII

    accepted = cli.main(["accept", "HEAD~1", "--why", as_python_has_it])

    assert accepted == 0
    assert [pin.why for pin in read_pins(project.root, MACHINE)] == ["für 512"]


def accept_and_lose(project: Project, run: Run) -> None:
    """Accept a run, and keep another of its machine in a history that has none of it."""
    assert cli.main(["accept", run.id, "--why", "release 1.2"]) == 0
    project.store = open_store(project.root / "elsewhere")
    project.keep(project.second)


def test_an_accepted_run_that_the_history_lacks_is_an_error_that_says_what_to_do(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project.keep(project.first)
    accept_and_lose(project, run)

    assert cli.main(["compare", "accepted", "last", "--history", "elsewhere"]) == USAGE

    first = project.first[:10]
    assert capsys.readouterr().err.endswith(
        f"the accepted run {run.id} of 2026-11-01 is not in the history at elsewhere, nor is a "
        f"clean run of its commit {first} on this machine, and a pin holds no times: name the "
        f"history that has them (--history URL), measure both commits now (vlmlatency ab {first} "
        f"HEAD), or accept another run\n"
    )


def test_an_accepted_run_without_a_commit_that_the_history_lacks_is_an_error(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run = replace(project.keep(project.first), commit=None, id="c" * 16)
    project.store.write(run)
    accept_and_lose(project, run)

    assert cli.main(["compare", "accepted", "last", "--history", "elsewhere"]) == USAGE

    assert capsys.readouterr().err.endswith(
        f"the accepted run {run.id} of 2026-11-01 is not in the history at elsewhere, and a pin "
        f"holds no times: name the history that has it (--history URL), or accept another run\n"
    )


def test_another_clean_run_of_the_accepted_commit_does_for_one_that_the_history_lacks(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project.keep(project.first)
    accept_and_lose(project, run)
    project.keep_ten()
    project.keep(project.second, slower={"vision_ms": 0.2})

    assert cli.main(["compare", "accepted", "last", "--history", "elsewhere"]) == SLOWER
    assert f"The accepted run {run.id} is not in this history" in capsys.readouterr().out


def test_a_run_of_the_accepted_commit_that_cannot_be_read_is_named(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()
    project.keep(project.second)
    cli.main(["accept", "HEAD~1", "--why", "release"])
    spoilt = project.store.index().names[0]
    project.store.place.write(file_of(spoilt), b'{"cases": ')
    capsys.readouterr()

    assert cli.main(["compare", "accepted", "last"]) == PASSED
    assert capsys.readouterr().out.count(f"Left out of the history: {spoilt.text}: ") == 1


@pytest.mark.parametrize("content", [b"", b'"terms"', b"[" * 10**5, b"\xff\xfe{\x00}\x00"])
def test_a_spoilt_run_stops_neither_compare_nor_trend(
    project: Project, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    project.keep_ten()
    project.keep(project.second)
    spoilt = project.store.index().names[4]
    project.store.place.write(file_of(spoilt), content)

    compared = cli.main(["compare", "HEAD~1", "last"])
    looked = cli.main(["trend", "--machine", MACHINE])

    assert (compared, looked) == (PASSED, PASSED)
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count(spoilt.text) == 2


def test_a_ref_is_accepted_on_every_machine_that_measured_it(project: Project) -> None:
    project.keep(project.second)
    newest = project.keep(project.second)
    elsewhere = project.keep(project.second, environment=ELSEWHERE)

    assert cli.main(["accept", "--why", "release"]) == 0

    assert [pin.run for pin in read_pins(project.root, MACHINE)] == [newest.id]
    other = fingerprint_of(elsewhere.environment)
    assert [pin.run for pin in read_pins(project.root, other)] == [elsewhere.id]


def test_a_dirty_run_is_accepted_only_by_its_id_and_that_is_said(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run = project.keep(project.second, is_dirty=True)

    refused = cli.main(["accept", "HEAD", "--why", "release"])
    accepted = cli.main(["accept", run.id, "--why", "release"])

    said = capsys.readouterr()
    assert (refused, accepted) == (USAGE, 0)
    assert "only 1 of uncommitted changes or pull requests: name one by its id" in said.err
    assert "It was measured with uncommitted changes" in said.out


def test_a_run_is_accepted_for_some_cases_by_their_names(project: Project) -> None:
    project.keep(project.second)

    assert cli.main(["accept", "--case", "test_caption[low]", "--why", "larger"]) == 0

    (pin,) = read_pins(project.root, MACHINE)
    assert pin.cases == ("tests/test_x.py::test_caption[low]",)


def test_a_case_that_the_run_lacks_is_refused_with_the_nearest_one(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep(project.second)

    assert cli.main(["accept", "--case", "test_caption[lo]", "--why", "larger"]) == USAGE
    assert "did you mean 'test_caption[low]'?" in capsys.readouterr().err
    assert read_pins(project.root, MACHINE) == ()


def verdict_of(project: Project, run: Run) -> str:
    """Return a verdict file of a run that no history holds any more."""
    cli.main(["compare", "HEAD~1", run.id, "--verdict", "verdict.json"])
    shutil.rmtree(project.root / ".vlm_latency")
    return "verdict.json"


@pytest.mark.parametrize("cases", [(), ("--case", "test_caption[low]")])
def test_a_run_is_accepted_from_its_verdict_file_without_a_history(
    project: Project, cases: tuple[str, ...]
) -> None:
    project.keep_ten()
    run = project.keep(project.second, slower={"vision_ms": 0.2}, is_pull_request=True)

    accepted = cli.main(["accept", verdict_of(project, run), "--why", "larger", *cases])

    (pin,) = read_pins(project.root, MACHINE)
    assert accepted == 0
    assert (pin.run, pin.commit, pin.started_at) == (run.id, project.second, run.started_at)
    assert pin.cases == (("tests/test_x.py::test_caption[low]",) if cases else None)


def test_a_verdict_of_uncommitted_changes_is_refused_since_it_holds_no_times(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep_ten()
    run = project.keep(project.second, is_dirty=True)

    assert cli.main(["accept", verdict_of(project, run), "--why", "larger"]) == USAGE
    assert "measured with uncommitted changes, and holds no times" in capsys.readouterr().err


@pytest.mark.parametrize(("ignored", "text"), [("", "commit that file"), (FOLDER, "git ignores")])
def test_a_pin_that_git_ignores_is_not_to_be_committed_but_the_rule_to_be_removed(
    project: Project, capsys: pytest.CaptureFixture[str], ignored: str, text: str
) -> None:
    project.keep(project.second)
    (project.root / ".gitignore").write_text(f"*.pyc\n{ignored}\n")

    assert cli.main(["accept", "--why", "larger"]) == 0

    printed = " ".join(capsys.readouterr().out.split())
    assert text in printed
    assert (f".gitignore:2:{FOLDER}" in printed) == bool(ignored)


def test_where_git_does_not_work_nothing_is_accepted_and_the_status_is_not_applied(
    project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.keep(project.second)
    monkeypatch.setenv("PATH", "")

    assert cli.main(["accept", "--why", "larger"]) == NOT_APPLIED
    assert "install git" in capsys.readouterr().err
    assert read_pins(project.root, MACHINE) == ()


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"schema_version": 9, "report": {}}'])
def test_a_file_that_is_no_verdict_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (project.root / "other.json").write_text(text)

    assert cli.main(["accept", "other.json", "--why", "larger"]) == USAGE
    assert "other.json is not a verdict file" in capsys.readouterr().err
    assert read_pins(project.root, MACHINE) == ()


def test_a_reason_is_needed(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.keep(project.second)

    assert cli.main(["accept", "--why", " "]) == USAGE
    assert "--why is empty" in capsys.readouterr().err


def test_outside_of_a_repository_nothing_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert cli.main(["accept", "--why", "release", "--history", "."]) == USAGE
    assert "a pin is a file to be committed" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_said_and_fails_what_passed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.keep(project.first)
    project.keep(project.second)

    status = cli.main(["compare", "HEAD~1", "last", "--verdict", "gone/gate.json"])

    assert status == 1
    assert "gone/gate.json could not be written: there is no folder" in capsys.readouterr().err
