"""What a history promises, wherever it lies."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import HistoryProblem, UsageProblem
from pytest_vlmlatency.history.names import name_of, parse_name
from pytest_vlmlatency.history.store import Index, file_of, open_store
from pytest_vlmlatency.plain import to_json
from pytest_vlmlatency.records import Run, run_rounds_of
from pytest_vlmlatency.whole_files import draft_of
from tests.cases import a_call, a_case
from tests.runs import COMMIT, a_run, an_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_history_that_is_not_there_is_empty(url: str) -> None:
    index = open_store(url).index()

    assert (index.names, index.problems) == ((), ())


def test_a_run_is_read_back_whole_and_as_it_is_judged(url: str) -> None:
    store = open_store(url)
    run = a_run(cases=[a_case(config={"top_k": 4}), a_case([a_call(vision_ms=0)], name="test_b")])

    store.write(run)

    (name,) = open_store(url).index().names
    assert store.read_whole(name) == run
    assert store.read([name]).runs == (run_rounds_of(run),)
    assert store.read([name]).problems == ()


def without_digest(run: Run) -> str:
    """Return a run as schema 2 had it, so that its values are looked at, whatever they are."""
    return to_json(replace(run, schema_version=2), indent=None)


def test_runs_are_listed_by_time_with_what_their_names_say(url: str) -> None:
    store = open_store(url)
    later = a_run(2, is_dirty=True, is_pull_request=True)
    earlier = a_run(1, commit=None)
    store.write(later)
    store.write(earlier)

    names = store.index().names

    assert names == (name_of(earlier), name_of(later))
    assert [(n.commit, n.is_dirty, n.is_pull_request) for n in names] == [
        (None, False, False),
        (COMMIT, True, True),
    ]


def test_runs_are_read_in_the_order_that_is_asked_for(url: str) -> None:
    store = open_store(url)
    runs = [a_run(number) for number in (1, 2, 3)]
    for run in runs:
        store.write(run)

    read = store.read([name_of(runs[2]), name_of(runs[0])]).runs

    assert [run.header.id for run in read] == [runs[2].id, runs[0].id]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: text[: text.index("spans") + 2], "no whole JSON: Unterminated string"),
        (lambda _text: "", "no whole JSON: Expecting value: line 1"),
        (lambda text: text.replace("10.0", "NaN"), "no whole JSON: it holds NaN"),
        (lambda text: text.replace("10.0", "-10.0"), "vision took -10.0 ms in one of its rounds"),
        (lambda text: text.replace("10.0", "1e999"), "vision took inf ms in one of its rounds"),
        (
            lambda text: text.replace('10.0, "cpu_ms"', '10.0, "device_ms"'),
            "vision has no time in one of its rounds, but None",
        ),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 4'),
            "written by a newer pytest-vlmlatency, in schema 4; this one reads up to 3: update it",
        ),
        (lambda _text: '{"machine_info": {}}', "no run of pytest-vlmlatency"),
        (lambda _text: "[1, 2]", ": no run of pytest-vlmlatency"),
        (lambda text: text.replace('"spans"', '"spams"'), "not of the form of a run: "),
        (lambda text: text.replace("0" * 15 + "1", "0" * 15 + "7"), "it holds another run, "),
        (lambda text: text.replace('"mode": "fail"', '"mode": "report"'), "it needs why='...'"),
        (
            lambda text: text.replace('"target_ratios": {}', '"target_ratios": {"*": 1e-300}'),
            "1e-300",
        ),
        (lambda text: text.replace('"branch": "main"', '"branch": {"a": 1}'), "branch is {'a': 1}"),
        (lambda text: text.replace('"branch": "main"', r'"branch": "\ud800"'), "surrogates not"),
        (lambda text: text.replace('"is_dirty": false', '"is_dirty": 0'), "is_dirty is 0"),
        (
            lambda text: text.replace('"lost": []', '"lost": "ab"'),
            "stands where a list is expected",
        ),
        (lambda text: text.replace("2026-11-20T", "0001-01-01T").replace("+00", "+23"), "range"),
        (lambda text: text.replace("10.0", "9" * 400), "vision took 999"),
        (lambda text: text.replace('"n_threads": null', '"n_threads": 1e999'), "n_threads is inf"),
        (lambda text: text.replace('"lost": []', '"lost": ' + "[" * 10**5), "recursion"),
        (lambda text: text.replace('"id": "000', '"id": "../'), "make no name of a run; expected"),
        (lambda text: text.replace(COMMIT, "../" + COMMIT), "its commit '../3f3f"),
        (lambda text: text.replace('"cases": [', '"cases": [7, '), "of a run: 'int' object is not"),
    ],
)
def test_a_spoilt_run_is_named_with_the_reason_and_the_others_are_read(
    tmp_path: Path, spoil: Callable[[str], str], reason: str
) -> None:
    store = open_store(tmp_path)
    cases = [a_case([a_call(cpu_share=1.0)])]
    spoilt, whole = a_run(1, cases=cases), a_run(2, cases=cases)
    store.write(whole)
    path = f"runs/{name_of(spoilt).text}.json"
    store.place.write(path, spoil(without_digest(spoilt)).encode())

    stored = store.read(store.index().names)

    assert [run.header.id for run in stored.runs] == [whole.id]
    (problem,) = stored.problems
    assert problem.startswith(f"{name_of(spoilt).text}: ")
    assert reason in problem
    assert (tmp_path / path).exists()


def test_a_spoilt_run_cannot_be_read_whole_either(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    name = name_of(a_run())
    store.place.write(file_of(name), without_digest(a_run()).replace("10.0", "-10.0").encode())

    with pytest.raises(HistoryProblem, match=r"vision took -10.0 wall_ms; expected a time of at"):
        store.read_whole(name)


def test_a_file_of_another_name_is_named_and_stays(url: str) -> None:
    store = open_store(url)
    store.write(a_run())
    store.place.write("runs/notes.txt", b"hello")
    store.place.write("compacted/notes.parquet", b"hello")

    index = store.index()

    assert index.names == (name_of(a_run()),)
    assert index.problems[0] == "runs/notes.txt: not named as a run is"
    assert index.problems[1].startswith("compacted/notes.parquet: no whole Parquet file: ")
    assert list(store.place.list("runs")) != []


@pytest.mark.parametrize("folder", ["runs", "compacted"])
def test_what_is_no_file_is_named_and_the_others_are_read(tmp_path: Path, folder: str) -> None:
    store = open_store(tmp_path)
    store.write(a_run())
    (tmp_path / "compacted").mkdir()
    name = f"{name_of(a_run(2)).text}.json"
    os.mkfifo(tmp_path / folder / "pipe")
    (tmp_path / folder / "folder").mkdir()
    (tmp_path / folder / name).symlink_to(name)

    index = store.index()

    assert index.names == (name_of(a_run()),)
    assert index.problems == tuple(
        f"{folder}/{what}: no regular file" for what in (name, "folder", "pipe")
    )
    assert len(store.read(index.names).runs) == 1


def test_a_pipe_in_place_of_a_run_is_not_waited_for(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(a_run())
    store.index()
    store.place.remove(file_of(name_of(a_run())))
    os.mkfifo(tmp_path / file_of(name_of(a_run())))

    assert store.read([name_of(a_run())]).runs == ()
    with pytest.raises(HistoryProblem, match="it is no regular file"):
        store.read_whole(name_of(a_run()))


def test_no_run_is_written_through_a_link_in_a_history(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "history" / "runs").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(tmp_path / "history")

    with pytest.raises(HistoryProblem, match="runs is a link; expected a folder"):
        open_store(tmp_path / "linked").write(a_run())

    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_history_may_be_a_link_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "history")

    open_store(tmp_path / "linked").write(a_run())

    assert open_store(tmp_path / "history").index().names == (name_of(a_run()),)


def test_an_unfinished_write_is_no_run_and_no_problem(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(a_run())
    (tmp_path / draft_of(file_of(name_of(a_run(2))))).write_text('{"started')

    assert store.index() == Index(names=(name_of(a_run()),))


def test_a_readonly_history_keeps_nothing_and_makes_no_folder(tmp_path: Path) -> None:
    store = open_store(tmp_path / "history", is_readonly=True)

    with pytest.raises(HistoryProblem, match="opened for reading only: nothing is kept there"):
        store.write(a_run())

    assert store.index().names == ()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_said_to_be_missing(url: str) -> None:
    store = open_store(url)

    assert store.read([name_of(a_run())]).problems == (
        f"{name_of(a_run()).text}: there is no such run (any more)",
    )
    with pytest.raises(HistoryProblem, match=r"there is no such run \(any more\)"):
        store.read_whole(name_of(a_run()))


@pytest.mark.parametrize("url", ["nowhere://bucket", "dropbox://folder"])
def test_a_url_that_nothing_reaches_is_refused_by_name(url: str) -> None:
    with pytest.raises(UsageProblem, match=f"the history '{url}' cannot be opened: "):
        open_store(url)


def test_a_run_is_not_kept_in_a_bucket_that_is_not_there(s3: str) -> None:
    store = open_store(f"{s3}-elsewhere/history")

    with pytest.raises(HistoryProblem, match="FileNotFoundError: The specified bucket does not"):
        store.write(a_run())


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file")

    with pytest.raises(HistoryProblem, match=r"history.* could not be written: "):
        open_store(tmp_path / "history").write(a_run())


def test_a_history_keeps_itself_out_of_git(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    open_store(tmp_path / ".vlm_latency").write(a_run())

    seen = subprocess.run([*git, "status", "--porcelain"], check=True, capture_output=True)

    assert seen.stdout == b""


def test_a_run_without_an_id_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the run has no id"):
        open_store(tmp_path).write(a_run(id=""))


def test_a_name_says_the_same_when_it_is_read_again() -> None:
    run = a_run(is_dirty=True, environment=an_environment(n_threads=4))

    assert parse_name(name_of(run).text) == name_of(run)
    assert name_of(run).fingerprint != name_of(a_run(is_dirty=True)).fingerprint
    assert name_of(run).started_at.isoformat() == "2026-11-20T00:00:01+00:00"


@pytest.mark.parametrize("text", ["", "run", "20261120T000001000Z_none_01_clean_0000000000000001"])
def test_any_other_text_is_no_name(text: str) -> None:
    assert parse_name(text) is None


def test_the_time_in_a_name_is_in_utc() -> None:
    assert name_of(a_run(started_at="2026-11-20T10:00:00.250+02:00")).time == "20261120T080000250Z"
    with pytest.raises(ValueError, match="without a time zone"):
        name_of(a_run(started_at="2026-11-20T10:00:00"))
