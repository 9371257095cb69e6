"""`vlmlatency trend` on a repository with a history: what it prints, and how it ends."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.gate import trend_command
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.records import Run, Trend, fingerprint_of
from tests.cases import a_call, a_case
from tests.repositories import commit, git, repository
from tests.runs import a_run, an_environment

if TYPE_CHECKING:
    from pathlib import Path

N_COMMITS = 24
SLOW_FROM = 14
MACHINE = fingerprint_of(an_environment())


@pytest.fixture(scope="module")
def slowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a run of each commit, whose decode got 8 % slower on the way."""
    root = tmp_path_factory.mktemp("slowed")
    noise = random.Random(5)
    commits = [repository(root, {"model.py": "0\n", ".gitignore": ".vlm_latency/\n"})]
    for number in range(1, N_COMMITS):
        commits.append(commit(root, {"model.py": f"{number}\n"}))
        git(root, "commit", "--quiet", "--amend", "--message", f"Change {number}")
        commits[-1] = git(root, "rev-parse", "HEAD")
    store = open_store(root / ".vlm_latency")
    for number, of in enumerate(commits):
        store.write(_run(number, of, noise))
    return root


@pytest.fixture(autouse=True)
def inside(slowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(slowed)


def _run(number: int, of: str, noise: random.Random) -> Run:
    level_ms = 300 * (1.08 if number >= SLOW_FROM else 1.0) * noise.gauss(1, 0.004)
    calls = [a_call(decode_ms=level_ms * noise.gauss(1, 0.01)) for _ in range(6)]
    return a_run(number, cases=[a_case(calls)], commit=of)


def trend(*arguments: str) -> int:
    return cli.main(["trend", *arguments])


def test_a_step_is_told_with_its_phase_its_size_and_the_commits_between_which_it_lies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = trend("--machine", MACHINE)

    printed = capsys.readouterr().out
    assert status == 10
    assert printed.startswith(
        "vlm trend: 2 of 5 series became slower in 24 runs of 24 commits, "
        f"on {MACHINE} (A processor), 2026-11-20 to 2026-11-20\n"
    )
    assert "\ntest_caption[low] decode: +" in printed
    assert "\ntest_caption[low] total: +" in printed
    assert f" Change {SLOW_FROM}\n" in printed
    assert "\n3 series without a step (--all lists them).\n" in printed
    assert printed.endswith("Exit status 10: the latest step of a series is one to slower.\n")


def test_the_range_of_commits_holds_the_slow_one_and_its_ends_are_told(
    slowed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trend("--machine", MACHINE, "--phase", "decode", "--json")

    told = json.loads(capsys.readouterr().out)
    ended = (told.pop("status"), told.pop("outcome"))
    found = from_plain(Trend, told)
    assert ended == (10, "slower")
    (series,) = found.series
    (step,) = series.steps
    numbers = [int(line.rpartition(" ")[2]) for line in step.commits]
    assert SLOW_FROM in numbers
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    ends = (str(step.last_good), str(step.first_bad))
    subjects = [git(slowed, "log", "-1", "--format=%s", end) for end in ends]
    assert subjects == [f"Change {numbers[0] - 1}", f"Change {numbers[-1]}"]


def test_a_series_without_a_step_is_shown_where_it_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = trend("--machine", MACHINE, "--phase", "vision")

    printed = capsys.readouterr().out.splitlines()
    assert status == 0
    assert printed[2:4] == ["test_caption[low] vision: no step", "  " + "▅" * N_COMMITS]
    assert printed[-1] == "No series ends slower than it was."


def test_only_the_last_runs_are_looked_at_and_too_few_are_no_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = trend("--machine", MACHINE, "--last", "9", "--phase", "decode")

    printed = capsys.readouterr().out
    assert status == 12
    assert "decode: 9 of at least 10 runs for two levels" in printed
    assert printed.endswith("Exit status 12: no series was long enough to be looked at.\n")


def test_a_phase_that_no_case_has_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert trend("--machine", MACHINE, "--phase", "decoding") == 12
    assert "Exit status 12" in capsys.readouterr().out


def test_without_runs_of_this_machine_those_of_others_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert trend() == 2
    assert f"it has runs of {MACHINE} (24 runs); name one with --machine" in capsys.readouterr().err


def test_this_machine_is_found_by_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(tmp_path / "history")
    store.write(a_run(1, environment=read_environment(())))
    store.write(a_run(2))

    trend("--history", str(tmp_path / "history"), "--all")

    assert f"in 1 run of 1 commit, on {fingerprint_of(read_environment(()))} (" in (
        capsys.readouterr().out
    )


def test_what_cannot_be_read_is_named_and_left_out(
    slowed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(tmp_path / "history")
    store.write(a_run(1, commit=git(slowed, "rev-parse", "HEAD")))
    (tmp_path / "history" / "runs" / "notes.txt").write_text("mine\n", encoding="utf-8")

    trend("--history", str(tmp_path / "history"), "--machine", MACHINE)

    assert "Left out of the history: runs/notes.txt: not named as a run is" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("number", ["-1", "many"])
def test_a_number_of_runs_that_is_none_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        trend("--last", number)

    assert "--last" in capsys.readouterr().err


def test_help_documents_every_exit_status_and_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit, match="0"):
        trend("--help")

    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert trend_command.DESCRIPTION in printed
