"""The commands of a history: what they print, what they write, what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import Store, StoredRuns, file_of, open_store
from pytest_vlmlatency.records import run_rounds_of
from tests.cases import a_call, a_case
from tests.history.test_golden import GOLDEN
from tests.history.test_store import without_digest
from tests.runs import a_run, an_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import Run

    Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Run a command that ends as expected, and return what it printed, errors last."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object, status: int = 0) -> str:
        assert cli.main([str(argument) for argument in arguments]) == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


def keep(folder: Path, *runs: object) -> None:
    for run in runs:
        open_store(folder).write(run)  # type: ignore[arg-type]  # runs


def test_a_history_is_listed_as_a_table(tmp_path: Path, said: Said) -> None:
    keep(
        tmp_path,
        a_run(1, cases=[a_case(name="test_a"), a_case(name="test_b")]),
        a_run(2, cases=[a_case(name="test_a")], is_dirty=True, is_pull_request=True),
        a_run(3, cases=[a_case(name="test_a")], commit=None),
    )
    open_store(tmp_path).place.write("runs/notes.txt", b"")

    page = said("history", "--history", tmp_path)

    machine = name_of(a_run()).fingerprint
    columns = "started (UTC)        run               commit      branch  machine       state"
    assert page.splitlines() == [
        f"{tmp_path}: 3 runs",
        "",
        f"{columns}                cases",
        f"2026-11-20 00:00:01  {1:016x}  3f3f3f3f3f  main    {machine}  clean                2",
        f"2026-11-20 00:00:02  {2:016x}  3f3f3f3f3f  main    {machine}  pull request, dirty  1",
        f"2026-11-20 00:00:03  {3:016x}  none        -       {machine}  no baseline          1",
        "",
        "case                     device  runs  last total",
        "tests/test_x.py::test_a  cpu     3     30.50 ms CPU",
        "tests/test_x.py::test_b  cpu     1     30.50 ms CPU",
        "",
        "left out:",
        "  runs/notes.txt: not named as a run is",
    ]


def test_the_last_runs_are_listed_and_the_others_counted(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, *(a_run(number) for number in range(1, 6)))

    lines = said("history", "--history", tmp_path, "--last", 2).splitlines()

    assert lines[0] == f"{tmp_path}: 5 runs, 2 shown"
    assert [line.split()[2] for line in lines[3:5]] == [f"{4:016x}", f"{5:016x}"]
    assert len(said("history", "--history", tmp_path, "--last", 0).splitlines()) == 11


def test_a_case_is_followed_through_its_runs(tmp_path: Path, said: Said) -> None:
    keep(
        tmp_path,
        a_run(1, cases=[a_case([a_call(decode_ms=40)], name="test_a"), a_case(name="test_b")]),
        a_run(2, cases=[a_case(name="test_b")]),
        a_run(3, cases=[a_case([a_call(decode_ms=50)], name="test_a")]),
    )

    lines = said("history", "--history", tmp_path, "--case", "test_a").splitlines()

    assert lines[0] == f"{tmp_path}: 3 runs, 2 shown"
    assert [line.split()[-4:] for line in lines[3:]] == [
        ["test_a", "35.50", "ms", "CPU"],
        ["test_a", "40.50", "ms", "CPU"],
    ]


def test_the_cases_of_two_folders_are_told_apart_in_a_list_of_runs(
    tmp_path: Path, said: Said
) -> None:
    cases = [a_case(id=f"{folder}/test_x.py::test_page", name="test_page") for folder in "ab"]
    open_store(tmp_path).write(a_run(cases=cases))

    page = said("history", "--history", tmp_path, "--case", "test_page")

    assert "a/test_x.py::test_page" in page
    assert "b/test_x.py::test_page" in page


def test_a_listing_for_programs_is_one_json_object(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, a_run(1))

    listing = json.loads(said("history", "--history", tmp_path, "--json"))

    assert (listing["n_runs"], listing["problems"]) == (1, [])
    assert listing["runs"][0]["commit"] == "3f" * 20
    assert listing["runs"][0]["cases"][0]["median_total_ms"] == 30.5


def test_an_empty_history_is_said_to_be(tmp_path: Path, said: Said) -> None:
    assert said("history", "--history", tmp_path / "none") == f"{tmp_path / 'none'}: no runs yet\n"


def test_without_a_repository_a_history_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    monkeypatch.chdir(tmp_path)

    assert "so no .vlm_latency in it; name a history with --history" in said("history", status=2)


def test_the_history_of_the_repository_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "below").mkdir()
    keep(tmp_path / ".vlm_latency", a_run(1))
    monkeypatch.chdir(tmp_path / "below")

    assert f"{tmp_path / '.vlm_latency'}: 1 run\n" in said("history")


@pytest.mark.parametrize("n_newest", [0, 1, 2])
def test_a_query_sees_files_and_parquet_alike(tmp_path: Path, said: Said, n_newest: int) -> None:
    keep(tmp_path, a_run(1), a_run(2, commit=None))
    said("compact", "--history", tmp_path, "--keep-newest", n_newest)

    found = said(
        "history",
        "--history",
        tmp_path,
        "--sql",
        "SELECT id, commit, case_name, phase, round, time_ms FROM rounds JOIN runs USING (name) "
        "WHERE phase IN ('vision', 'total') ORDER BY ALL",
    )

    times = [f"test_caption[low],{phase}" for phase in ("total,1,30.5", "total,2,30.5")]
    times += [f"test_caption[low],{phase}" for phase in ("vision,1,5.0", "vision,2,5.0")]
    assert found.splitlines() == [
        "id,commit,case_name,phase,round,time_ms",
        *(f"{1:016x},{'3f' * 20},{line}" for line in times),
        *(f"{2:016x},,{line}" for line in times),
    ]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT started_at FROM runs", "started_at\n2026-11-20 00:00:01+00\n"),
        ("SELECT id AS a, max(started_at) AS a FROM runs GROUP BY id", "2026-11-20 00:00:01+00"),
        ("SELECT [started_at] AS all FROM runs", "2026-11-20 00:00:01+00"),
        ("SELECT is_dirty FROM runs", "is_dirty\nFalse\n"),
        ("DESCRIBE runs", "started_at,TIMESTAMP WITH TIME ZONE"),
    ],
)
def test_times_of_a_time_zone_are_answered_without_further_packages(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch, query: str, answer: str
) -> None:
    monkeypatch.setitem(sys.modules, "pytz", None)
    keep(tmp_path, a_run(1))

    assert answer in said("history", "--history", tmp_path, "--sql", query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{secret}'",
        "COPY runs TO '{folder}/out.csv'",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/out.duckdb'",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA profiling_output = '{folder}/out.json'",
        "CREATE TABLE more AS SELECT 1",
        "DROP VIEW runs",
        "SELECT * FROM names",  # a variable of the command's own
    ],
)
def test_a_query_reaches_the_tables_and_nothing_else(
    tmp_path: Path, said: Said, query: str
) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    secret = folder / "secret.csv"
    secret.write_text("token\nhunter2\n")
    keep(tmp_path / "history", a_run(1))

    printed = said(
        "history",
        "--history",
        tmp_path / "history",
        "--sql",
        query.format(secret=secret, folder=folder),
        status=2,
    )

    assert "hunter2" not in printed
    assert list(folder.iterdir()) == [secret]


def test_a_query_names_what_it_left_out(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, a_run(1), a_run(2))
    said("compact", "--history", tmp_path)
    keep(tmp_path, a_run(3))
    (parquet,) = (tmp_path / "compacted").glob("*.parquet")
    content = parquet.read_bytes()
    parquet.write_bytes(content[: len(content) // 2] + bytes(64) + content[len(content) // 2 :])

    printed = said("history", "--history", tmp_path, "--sql", "SELECT id FROM runs")

    assert f"{3:016x}" in printed
    assert f"Left out of the history: {parquet.parent.name}/{parquet.name}" in printed


def test_a_long_history_is_read_a_few_runs_at_a_time(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_vlmlatency.history.store.FETCHED_AT_ONCE", 2)
    keep(tmp_path, *(a_run(number) for number in range(1, 6)))
    at_once: list[int] = []
    read = Store.read

    def noting(store: Store, names: Sequence[RunName]) -> StoredRuns:
        at_once.append(len(names))
        return read(store, names)

    monkeypatch.setattr(Store, "read", noting)

    printed = said("history", "--history", tmp_path, "--last", "0")

    assert at_once == [2, 2, 1]
    assert all(a_run(number).id in printed for number in range(1, 6))


def test_compacted_runs_are_listed_as_they_were_before(tmp_path: Path, said: Said) -> None:
    cases = [a_case(name="test_a"), a_case(name="test_b")]
    keep(tmp_path, *(a_run(number, cases=cases[: number % 3]) for number in range(1, 6)))
    arguments = ("history", "--history", tmp_path, "--last", "4", "--json")
    before = said(*arguments), said(*arguments, "--case", "test_b")
    said("compact", "--history", tmp_path)

    after = said(*arguments), said(*arguments, "--case", "test_b")

    assert after == before


def test_compacted_runs_are_listed_without_reading_their_rounds(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, a_run(1), a_run(2))
    said("compact", "--history", tmp_path)

    def read(_store: Store, names: Sequence[RunName]) -> StoredRuns:
        raise AssertionError(f"{names} are read with their rounds")

    monkeypatch.setattr(Store, "read", read)

    printed = said("history", "--history", tmp_path, "--last", "0")

    assert a_run(1).id in printed
    assert a_run(2).id in printed


def test_a_listing_names_compacted_runs_that_are_damaged(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, a_run(1), a_run(2))
    said("compact", "--history", tmp_path)
    (parquet,) = (tmp_path / "compacted").glob("*.parquet")
    content = bytearray(parquet.read_bytes())
    content[len(content) // 2] ^= 1
    parquet.write_bytes(content)

    printed = said("history", "--history", tmp_path)

    assert f"compacted/{parquet.name}: its Parquet file is damaged" in printed


def test_a_query_to_an_empty_history_has_an_empty_answer(tmp_path: Path, said: Said) -> None:
    assert said("history", "--history", tmp_path, "--sql", "SELECT id FROM runs") == "id\n"


def test_a_query_that_means_nothing_is_a_usage_error(tmp_path: Path, said: Said) -> None:
    assert "tables: runs, cases, rounds" in said(
        "history", "--history", tmp_path, "--sql", "SELECT x FROM nowhere", status=2
    )


def test_compact_says_what_it_did_and_what_it_left(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, a_run(1), a_run(2))
    open_store(tmp_path).place.write(file_of(name_of(a_run(3))), b"{")

    text = said("compact", "--history", tmp_path, status=1)

    assert text.startswith(f"{tmp_path}: 2 runs folded\nleft as it is: {name_of(a_run(3)).text}: ")


def shards(folder: Path, *runs: object) -> Sequence[Path]:
    """Write runs into files, as --vlm-json does."""
    paths = [folder / f"shard-{number}.json" for number in range(len(runs))]
    for path, run in zip(paths, runs, strict=True):
        write_run(run, path)  # type: ignore[arg-type]  # runs
    return paths


def test_shards_become_one_run_of_a_history(tmp_path: Path, said: Said) -> None:
    one = a_run(1, cases=[a_case(name="test_a")], lost=("test_lost",))
    other = a_run(2, cases=[a_case(name="test_b")], branch=None)

    text = said("merge", *shards(tmp_path, other, one), "--to", tmp_path / "history")

    store = open_store(tmp_path / "history")
    (name,) = store.index().names
    whole = store.read_whole(name)
    assert text == f"2 runs with 2 cases: run {whole.id} in {tmp_path / 'history'}\n"
    assert whole == replace(
        one, id=whole.id, cases=(*other.cases, *one.cases), merged_from=(one.id, other.id)
    )


def test_merging_again_is_the_same_run(tmp_path: Path, said: Said) -> None:
    files = shards(tmp_path, a_run(1), a_run(2, cases=[a_case(name="test_b")]))

    said("merge", *files, "--to", tmp_path / "history")
    said("merge", *reversed(files), "--to", tmp_path / "history")

    assert len(open_store(tmp_path / "history").index().names) == 1


def test_shards_become_one_file(tmp_path: Path, said: Said) -> None:
    files = shards(tmp_path, a_run(1), a_run(2, cases=[a_case(name="test_b")]))

    said("merge", *files, "--to", tmp_path / "whole.json")

    assert len(json.loads((tmp_path / "whole.json").read_text())["cases"]) == 2


def test_a_whole_run_has_the_devices_of_all_shards(tmp_path: Path, said: Said) -> None:
    def shard(number: int, index: int) -> Run:
        device = {"device": f"cuda:{index}", "name": "NVIDIA H200", "uuid": str(index)}
        environment = replace(an_environment(), devices=(device,))
        return a_run(number, cases=[a_case(name=f"test_{number}")], environment=environment)

    files = shards(tmp_path, shard(1, 0), shard(2, 1), shard(3, 0))
    said("merge", *files, "--to", tmp_path / "whole.json")

    devices = json.loads((tmp_path / "whole.json").read_text())["environment"]["devices"]
    assert [device["device"] for device in devices] == ["cuda:0", "cuda:1"]


OTHER = a_case(name="test_b")
WITHOUT_TRANSFORMERS = replace(an_environment(), versions={"torch": "2.13.0"})


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (
            a_run(2, cases=[OTHER], commit="a1" * 20),
            "commit: 3f3f3f3f3f, then a1a1a1a1a1",
        ),
        (
            a_run(2, cases=[OTHER], is_dirty=True),
            "commit: 3f3f3f3f3f, then 3f3f3f3f3f, with changes",
        ),
        (a_run(2, cases=[OTHER], commit=None), "commit: 3f3f3f3f3f, then none"),
        (
            a_run(2, cases=[OTHER], environment=an_environment(n_threads=4)),
            "threads: 1, then 4",
        ),
        (
            a_run(
                2,
                cases=[OTHER],
                environment=replace(an_environment(), versions={"torch": "2.13.0"}),
            ),
            "transformers: 5.23.0, then None",
        ),
        (
            a_run(2, cases=[OTHER], is_pull_request=True),
            "one is of a pull request, the other is not",
        ),
        (
            a_run(2),
            "1 cases were measured by more than one: tests/test_x.py::test_caption[low]",
        ),
    ],
)
def test_what_is_not_of_one_job_is_not_joined(
    tmp_path: Path, said: Said, other: object, problem: str
) -> None:
    text = said("merge", *shards(tmp_path, a_run(1), other), "--to", tmp_path / "h", status=1)

    assert text == (
        "vlmlatency: HistoryProblem: these 2 runs are not the shards of one job: " + problem + "\n"
    )
    assert not (tmp_path / "h").exists()


def test_shards_that_a_history_holds_are_not_counted_twice(tmp_path: Path, said: Said) -> None:
    keep(tmp_path, a_run(1), a_run(2, cases=[OTHER]))
    ids = (f"{1:016x}", f"{2:016x}")

    text = said("merge", *ids, "--history", tmp_path, "--to", tmp_path, status=1)
    said("merge", *ids, "--history", tmp_path, "--to", tmp_path / "whole.json")

    assert "2 of these runs stand in" in text
    assert len(open_store(tmp_path).index().names) == 2


def test_one_run_is_no_sharded_job(tmp_path: Path, said: Said) -> None:
    text = said("merge", *shards(tmp_path, a_run(1)), "--to", tmp_path, status=2)

    assert "merge was given one run" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nothing", "no file and no run is called 'nothing'"),
        ("3f3f3f", "'3f3f3f' is 2 runs; name one by its id: "),
        ("000", "no file and no run is called '000'"),
    ],
)
def test_a_run_that_is_not_named_clearly_is_a_usage_error(
    tmp_path: Path, said: Said, text: str, problem: str
) -> None:
    keep(tmp_path, a_run(1), a_run(2))

    assert problem in said(
        "export-benchmark", text, "--history", tmp_path, "--to", tmp_path / "x.json", status=2
    )


BENCHMARKS = """\
import pytest

@pytest.mark.parametrize("size", [1, 2])
def test_work(benchmark, size):
    benchmark.pedantic(lambda: sum(range(1000 * size)), rounds=4)
"""


def benchmark_file(folder: Path, *options: str) -> Path:
    """Let pytest-benchmark itself save a run of two benchmarks."""
    (folder / "test_work.py").write_text(BENCHMARKS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_work.py"]
    environ = {name: os.environ[name] for name in os.environ if name != "PYTEST_XDIST_WORKER"}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environ, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob(".benchmarks/*/*.json") if "save" in options[0] else [folder / "b.json"]
    return path


def test_a_file_of_pytest_benchmark_becomes_a_run_with_its_totals(
    tmp_path: Path, said: Said
) -> None:
    path = benchmark_file(tmp_path, "--benchmark-json=b.json")
    saved = json.loads(path.read_text())

    text = said("import", path, "--history", tmp_path / "h")

    store = open_store(tmp_path / "h")
    (name,) = store.index().names
    (run,) = store.read([name]).runs
    assert text == f"{tmp_path / 'h'}: 1 runs imported\n"
    assert [case.case_id for case in run.cases] == [b["fullname"] for b in saved["benchmarks"]]
    assert [dict(case.times_ms) for case in run.cases] == [
        {"total": tuple(1000 * time_s for time_s in bench["stats"]["data"])}
        for bench in saved["benchmarks"]
    ]
    whole = store.read_whole(name)
    assert run == run_rounds_of(whole)
    assert [(case.workload, case.params) for case in whole.cases] == [
        (None, {"size": "1"}),
        (None, {"size": "2"}),
    ]
    assert saved["machine_info"]["node"] not in path_of(store, name)


def path_of(store: object, name: object) -> str:
    """Return the text of a run's own file."""
    (path,) = Path(store.url, "runs").iterdir()  # type: ignore[attr-defined]  # a store
    assert name.text in path.name  # type: ignore[attr-defined]  # a name
    return path.read_text()


def test_importing_again_adds_nothing(tmp_path: Path, said: Said) -> None:
    path = benchmark_file(tmp_path, "--benchmark-json=b.json")
    said("import", path, "--history", tmp_path / "h")

    text = said("import", path, path, "--history", tmp_path / "h")

    assert text.startswith(f"{tmp_path / 'h'}: 0 runs imported, 2 not")
    assert len(open_store(tmp_path / "h").index().names) == 1


def test_a_file_without_samples_is_refused_with_what_to_do(tmp_path: Path, said: Said) -> None:
    path = benchmark_file(tmp_path, "--benchmark-save=run")

    text = said("import", path, "--history", tmp_path / "h", status=1)

    assert "none of its 2 benchmarks has samples; save them with --benchmark-save-data" in text


def test_runs_of_older_versions_are_imported(tmp_path: Path, said: Said) -> None:
    said("import", *sorted(GOLDEN.glob("*.json")), "--history", tmp_path)

    store = open_store(tmp_path)
    assert [name.id for name in store.index().names] == [
        "6a0c9795d6671b8f",
        "0ed34058d02cb0b6",
        "0adefc2292af805e",
    ]
    assert store.read(store.index().names).problems == ()


@pytest.mark.parametrize("content", ["", "{}", '{"benchmarks": 1, "machine_info": 2}'])
def test_a_file_of_anything_else_is_named_and_the_others_are_imported(
    tmp_path: Path, said: Said, content: str
) -> None:
    (tmp_path / "x.json").write_text(content)
    (tmp_path / "y.json").write_text('{"benchmarks": 1, "machine_info": 2, "datetime": ""}')
    files = (tmp_path / "x.json", tmp_path / "y.json", GOLDEN / "run_schema_2.json")

    text = said("import", *files, "--history", tmp_path / "h", status=1)

    assert f"{tmp_path / 'h'}: 1 runs imported, 2 not" in text
    assert str(tmp_path / "x.json") in text
    assert str(tmp_path / "y.json") in text


def test_pytest_benchmark_compares_what_is_exported(tmp_path: Path, said: Said) -> None:
    slower = a_run(2, cases=[a_case([a_call(decode_ms=60)] * 2)])
    keep(tmp_path / "h", a_run(1), slower)

    said(
        "export-benchmark",
        f"{1:016x}",
        slower.id,
        "--history",
        tmp_path / "h",
        "--to",
        tmp_path / "b",
    )
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", *sorted((tmp_path / "b").iterdir())],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert compared.returncode == 0, compared.stderr
    assert "test_caption:decode[low]" in compared.stdout
    assert "30.0000 (2.0" in compared.stdout


def test_what_is_exported_and_imported_has_the_times_of_its_phases(
    tmp_path: Path, said: Said
) -> None:
    (file,) = shards(tmp_path, a_run(1, cases=[a_case([a_call(decode_ms=40), a_call()])]))

    said("export-benchmark", file, "--to", tmp_path / "b.json")
    said("import", tmp_path / "b.json", "--history", tmp_path / "h")

    store = open_store(tmp_path / "h")
    (run,) = store.read(store.index().names).runs
    totals = {case.case_name: case.times_ms["total"] for case in run.cases}
    assert totals["test_caption:decode[low]"] == (20.0, 15.0)
    assert totals["test_caption:total[low]"] == (35.5, 30.5)
    assert run.header.started_at == a_run(1).started_at
    assert run.header.commit == a_run(1).commit


@pytest.mark.parametrize("ending", ["", "/"])
def test_one_run_is_exported_into_a_folder_that_is_not_there_yet(
    tmp_path: Path, said: Said, ending: str
) -> None:
    keep(tmp_path / "history", a_run(1))

    history = ("--history", tmp_path / "history")
    said("export-benchmark", f"{1:016x}", *history, "--to", f"{tmp_path / 'new'}{ending}")

    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{1:016x}.json"]


def test_several_runs_are_not_exported_into_what_ends_as_a_file_does(
    tmp_path: Path, said: Said
) -> None:
    keep(tmp_path, a_run(1), a_run(2))
    runs = (f"{1:016x}", f"{2:016x}", "--history", tmp_path)

    text = said("export-benchmark", *runs, "--to", tmp_path / "new.json", status=2)

    assert "expected a folder for 2 runs" in text
    assert not (tmp_path / "new.json").exists()


OUTSIDE = ("../../outside", "/tmp/outside-of-all", "a/../../b", "A" * 16, "a\n" * 8)


@pytest.mark.parametrize("id_", OUTSIDE, ids=range(len(OUTSIDE)))
def test_an_id_that_is_no_part_of_a_name_decides_no_path(
    tmp_path: Path, said: Said, id_: str
) -> None:
    shard = tmp_path / "run.json"
    write_run(replace(a_run(1), id=id_), shard)
    history, to = tmp_path / "a" / "b" / "history", tmp_path / "a" / "b" / "to"

    imported = said("import", shard, "--history", history, status=1)
    exported = said("export-benchmark", shard, "--to", f"{to}/", status=1)

    assert imported.count("make no name of a run") == exported.count("make no name of a run") == 1
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert [path for path in written if path not in ("a", "a/b", "a/b/history")] == ["run.json"]
    assert not Path("/tmp/outside-of-all.json").exists()


def test_a_commit_that_is_none_is_merged_into_no_run(tmp_path: Path, said: Said) -> None:
    files = shards(
        tmp_path,
        a_run(1, cases=[a_case(name="test_a")], commit="../../outside"),
        a_run(2, cases=[a_case(name="test_b")], commit="../../outside"),
    )

    text = said("merge", *files, "--to", tmp_path / "a" / "b" / "history", status=1)

    assert "its commit '../../outside'" in text
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: "[" * 10**5,
        lambda plain: json.dumps(plain | {"datetime": "0001-01-01T00:00:00+23:00"}),
        lambda plain: json.dumps(plain).replace('"name": "test_work"', '"name": {}'),
        lambda plain: json.dumps(plain | {"machine_info": {"system": {"a": 1}}}),
        lambda plain: json.dumps(plain | {"commit_info": ["a"]}),
        lambda plain: json.dumps(plain).replace("0.25", "1e300"),
        lambda plain: json.dumps(plain).replace("test_work", r"\ud800"),
    ],
    ids=["deep", "year", "name", "machine", "commit", "time", "surrogate"],
)
def test_a_spoilt_file_of_pytest_benchmark_is_named_and_the_next_is_imported(
    tmp_path: Path, said: Said, spoil: Callable[[object], str]
) -> None:
    bench = {"name": "test_work", "fullname": "test_work", "stats": {"data": [0.25]}}
    plain = {"machine_info": {}, "datetime": "2026-11-20T10:00:00", "benchmarks": [bench]}
    (tmp_path / "x.json").write_text(spoil(plain))
    (tmp_path / "y.json").write_text(json.dumps(plain))

    text = said("import", tmp_path / "x.json", tmp_path / "y.json", "--history", tmp_path, status=1)

    assert f"{tmp_path}: 1 runs imported, 1 not" in text
    assert f"{tmp_path / 'x.json'} cannot be imported: " in text


def test_a_pipe_a_folder_and_a_looping_link_are_not_imported(tmp_path: Path, said: Said) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loop.json").symlink_to("loop.json")
    files = [tmp_path / f"{name}.json" for name in ("pipe", "folder", "loop")]

    text = said(
        "import", *files, GOLDEN / "run_schema_2.json", "--history", tmp_path / "h", status=1
    )

    assert f"{tmp_path / 'h'}: 1 runs imported, 3 not" in text
    assert all(f"{file} cannot be imported: " in text for file in files)


BAD: Mapping[str, bytes] = {
    "empty": b"",
    "nested": b"[" * 10**5,
    "utf-16": "{}".encode("utf-16"),
    "terms": without_digest(a_run()).replace('"mode": "fail"', '"mode": "report"').encode(),
    "surrogate": without_digest(a_run()).replace('"main"', r'"\udfff"').encode(),
    "name": without_digest(a_run()).replace('"main"', '{"a": 1}').encode(),
    "time": without_digest(a_run()).replace("10.0", "1e400").encode(),
    "number": without_digest(a_run()).replace("10.0", "9" * 5000).encode(),
}


@pytest.mark.parametrize(
    "words",
    [
        ("history",),
        ("history", "--json"),
        ("history", "--sql", "SELECT count(*) FROM runs"),
        ("compact",),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_bad_runs_are_named_and_stop_no_command(
    tmp_path: Path, said: Said, words: Sequence[str]
) -> None:
    good = a_run(100)
    keep(tmp_path, good)
    store = open_store(tmp_path)
    names = [name_of(a_run(number)) for number in range(1, len(BAD) + 1)]
    for name, content in zip(names, BAD.values(), strict=True):
        store.place.write(file_of(name), content)
    os.mkfifo(tmp_path / "runs" / "pipe")
    (tmp_path / "runs" / "loop").symlink_to("loop")

    text = said(*words, "--history", tmp_path, status=1 if words == ("compact",) else 0)

    assert [name.text for name in names if name.text not in text] == []
    assert open_store(tmp_path).read([name_of(good)]).problems == ()
