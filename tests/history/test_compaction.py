"""Compaction loses nothing: what is read before and after is the same, whenever it is stopped."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history import compaction, parquet_writing
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.places import Folder
from pytest_vlmlatency.history.queries import tables_of
from pytest_vlmlatency.history.store import file_of, open_store
from pytest_vlmlatency.plain import to_json
from pytest_vlmlatency.records import Place, Run, Span, run_rounds_of
from tests.cases import a_call, a_case
from tests.runs import a_run, an_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.history.store import Store


def a_history(url: str | Path, *numbers: int) -> tuple[Store, list[Run]]:
    """Return a history with runs of a case that was measured and one that was not."""
    store = open_store(url)
    unmeasured = a_case((), name="test_off", is_measured=False)
    runs = [a_run(n, cases=[a_case([a_call(decode_ms=n + 0.1)]), unmeasured]) for n in numbers]
    for run in runs:
        store.write(run)
    return store, runs


def assert_holds(store: Store, runs: Sequence[Run]) -> None:
    """A history gives all of these runs, whole and as they are judged."""
    names = store.index().names
    assert names == tuple(name_of(run) for run in runs)
    assert store.read(names).runs == tuple(run_rounds_of(run) for run in runs)
    assert store.read(names).problems == ()
    assert [store.read_whole(name) for name in names] == runs


def test_a_compacted_history_holds_what_it_held_before(url: str) -> None:
    store, runs = a_history(url, 1, 2, 3)

    done = compact(store)

    assert (done.n_folded, done.n_joined, done.problems) == (3, 0, ())
    assert list(store.place.list("runs")) == []
    assert len(store.place.list("compacted")) == 1
    assert_holds(open_store(url), runs)


@pytest.mark.parametrize("protocol", ["", "memory://"])
def test_signs_that_mean_something_in_patterns_are_only_letters_of_a_place(
    tmp_path: Path, protocol: str
) -> None:
    url = f"{protocol}{tmp_path}/a[b]'s *?"
    store, runs = a_history(url, 1, 2)
    assert_holds(store, runs)

    compact(store)

    assert_holds(open_store(url), runs)


def test_signs_that_mean_something_in_sql_are_only_letters_of_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "it's [a] *"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    store, runs = a_history(tmp_path / "history", 1, 2)

    compact(store)

    assert_holds(store, runs)
    with tables_of(store) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert list(temporary.iterdir()) == []


def test_compacting_again_changes_nothing(url: str) -> None:
    store, runs = a_history(url, 1, 2)
    compact(store)
    files = store.place.list("compacted")

    assert compact(store).n_folded == 0

    assert store.place.list("compacted") == files
    assert_holds(store, runs)


def test_runs_in_parquet_and_in_files_of_their_own_are_one_history(url: str) -> None:
    store, runs = a_history(url, 1, 2)
    compact(store)
    store.write(a_run(3))

    assert_holds(open_store(url), [*runs, a_run(3)])


def test_the_newest_runs_can_stay_files_of_their_own(tmp_path: Path) -> None:
    store, runs = a_history(tmp_path, 1, 2, 3)

    assert compact(store, n_newest_kept=2).n_folded == 1

    assert sorted(store.place.list("runs")) == [file_of(name_of(run)) for run in runs[1:]]
    assert_holds(store, runs)


def test_a_run_that_stands_in_both_is_read_once_and_its_file_removed_later(url: str) -> None:
    store, runs = a_history(url, 1, 2)
    compact(store)
    store.write(runs[0])  # as if it had been stopped before removing

    assert_holds(open_store(url), runs)
    assert compact(store).n_folded == 1
    assert list(store.place.list("runs")) == []
    assert_holds(open_store(url), runs)


def test_a_run_that_cannot_be_read_is_named_and_stays(tmp_path: Path) -> None:
    store, runs = a_history(tmp_path, 1, 2)
    path = file_of(name_of(a_run(3)))
    store.place.write(path, to_json(a_run(3)).replace("10.0", "-10.0").encode())
    truncated = file_of(name_of(a_run(4)))
    store.place.write(truncated, b"{")

    done = compact(store)

    assert done.n_folded == 2
    assert [problem.partition(": ")[0] for problem in done.problems] == [
        name_of(a_run(3)).text,
        name_of(a_run(4)).text,
    ]
    assert sorted(store.place.list("runs")) == sorted([path, truncated])
    assert store.read(name_of(run) for run in runs).problems == ()


def test_many_small_parquet_files_become_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL_FILES", 3)
    store, first = a_history(url, 1, 2)
    compact(store)
    _, second = a_history(url, 3)
    compact(store)
    _, third = a_history(url, 4, 5)

    assert compact(store).n_joined == 3

    (path,) = store.place.list("compacted")
    assert "_5_" in path
    assert_holds(open_store(url), [*first, *second, *third])


def test_parquet_files_that_share_a_run_are_joined_with_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL_FILES", 2)
    store, runs = a_history(tmp_path, 1, 2)
    compact(store)
    for run in runs:
        store.write(run)
    store.write(a_run(3))
    store.index()
    compaction._fold(store, [name_of(run) for run in (*runs, a_run(3))], [])
    assert len(store.place.list("compacted")) == 2

    assert compact(store).n_joined == 2

    assert len(store.place.list("compacted")) == 1
    assert_holds(open_store(tmp_path), [*runs, a_run(3)])


@pytest.mark.parametrize("column", ["whole", "slim", "times_ms"])
def test_a_file_that_does_not_give_a_run_back_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    store, runs = a_history(tmp_path, 1)
    add = parquet_writing.Rows.add
    monkeypatch.setattr(
        parquet_writing.Rows,
        "add",
        lambda self, rows: add(self, [{**row, column: None} for row in rows]),
    )

    (problem,) = compact(store).problems

    assert f"does not give back {name_of(runs[0]).text} as it was written" in problem

    assert list(store.place.list("runs")) == [file_of(name_of(runs[0]))]
    monkeypatch.undo()
    assert_holds(open_store(tmp_path), runs)


def test_a_run_that_was_folded_between_index_and_reading_is_found(tmp_path: Path) -> None:
    _, runs = a_history(tmp_path, 1, 2)
    reader = open_store(tmp_path)
    names = reader.index().names

    compact(open_store(tmp_path))

    assert reader.read(names).runs == tuple(run_rounds_of(run) for run in runs)
    assert reader.read_whole(names[0]) == runs[0]


def test_a_run_whose_parquet_file_was_joined_between_index_and_reading_is_found(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL_FILES", 2)
    store, first = a_history(url, 1)
    compact(store)
    reader = open_store(url)
    (name,) = reader.index().names
    a_history(url, 2)

    assert compact(store).n_joined == 2

    assert reader.read([name]).runs == (run_rounds_of(first[0]),)
    assert reader.read_whole(name) == first[0]


def test_an_index_looks_again_if_parquet_files_are_joined_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL_FILES", 2)
    store, first = a_history(url, 1)
    compact(store)
    _, second = a_history(url, 2)
    before = list(store.place.list("compacted"))
    compact(store)
    reader = open_store(url)
    true_list = reader.place.list

    def list_once_as_before(folder: str) -> Sequence[str]:
        return [before.pop()] if folder == "compacted" and before else true_list(folder)

    monkeypatch.setattr(reader.place, "list", list_once_as_before)

    assert reader.index().names == tuple(name_of(run) for run in (*first, *second))


def test_a_readonly_history_is_not_compacted(tmp_path: Path) -> None:
    store, _ = a_history(tmp_path, 1)

    with pytest.raises(HistoryProblem, match="opened for reading only"):
        compact(open_store(tmp_path, is_readonly=True))

    assert len(store.place.list("runs")) == 1


def test_a_parquet_file_of_a_newer_format_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = a_history(tmp_path, 1)
    monkeypatch.setattr(parquet_writing, "FORMAT", "vlmlatency-runs-3")
    monkeypatch.setattr("pytest_vlmlatency.history.parquet.FORMAT", "vlmlatency-runs-3")
    compact(store)
    monkeypatch.undo()

    (problem,) = open_store(tmp_path).index().problems

    assert "it says 'vlmlatency-runs-3', expected 'vlmlatency-runs-2'" in problem


def test_a_truncated_parquet_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    store, _ = a_history(tmp_path, 1)
    compact(store)
    (path,) = store.place.list("compacted")
    whole = (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes(whole[: len(whole) // 2])
    store.write(a_run(2))

    index = open_store(tmp_path).index()

    assert index.names == (name_of(a_run(2)),)
    assert index.problems[0].startswith(f"{path}: its Parquet file is damaged: ")


TIMES = st.floats(min_value=1e-6, max_value=1e9, allow_nan=False)
NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)


@st.composite
def runs_of_anything(draw: st.DrawFn) -> Run:
    """Return a run with spans of a user's own, inside phases or beside them, on any device."""
    has_cpu = draw(st.booleans())
    spans = [
        Span(name=draw(NAMES), start_ms=0.0, measures=measures, place=draw(st.sampled_from(Place)))
        for measures in draw(
            st.lists(
                st.builds(lambda wall, cpu: {"wall_ms": wall} | cpu, TIMES, _cpu(is_there=has_cpu)),
                max_size=3,
            )
        )
    ]
    calls = draw(
        st.lists(
            st.builds(
                a_call,
                vision_ms=st.one_of(st.just(0.0), TIMES),
                decode_ms=TIMES,
                cpu_share=st.just(0.5 if has_cpu else None),
                extra_spans=st.lists(st.sampled_from(spans), max_size=3) if spans else st.just([]),
                contended_ratio=st.one_of(st.none(), st.floats(0, 1)),
            ),
            max_size=4,
        )
    )
    config = draw(st.one_of(st.none(), st.dictionaries(NAMES, st.one_of(st.integers(), TIMES))))
    cases = [a_case(calls, name=draw(NAMES), config=config, notes=(draw(NAMES),))]
    environment = an_environment(cpu=draw(NAMES))
    commit = draw(st.one_of(st.none(), st.just("a1" * 20)))
    return a_run(cases=cases, environment=environment, commit=commit, lost=(draw(NAMES),))


def _cpu(*, is_there: bool) -> st.SearchStrategy[dict[str, float]]:
    return st.builds(lambda ms: {"cpu_ms": ms}, TIMES) if is_there else st.just({})


@given(run=runs_of_anything())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_json_parquet_and_the_whole_run_give_the_same_rounds(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = open_store(tmp_path_factory.mktemp("history"))
    store.write(run)
    names = store.index().names

    from_json, whole = store.read(names), store.read_whole(names[0])
    compact(store)

    assert from_json.problems == ()
    assert from_json.runs == store.read(names).runs == (run_rounds_of(run),)
    assert whole == store.read_whole(names[0]) == run
    assert isinstance(store.place, Folder)


def _damage(path: Path, text: str) -> None:
    """Write a file anew with other rows, under a name without the digest of its bytes."""
    connection = duckdb.connect()
    connection.execute(
        f"COPY ({text.format(path=path)}) TO '{path}.new' (FORMAT parquet, "
        f"KV_METADATA {{format: 'vlmlatency-runs-2', names: '{_names(path)}'}})"
    )
    Path(f"{path}.new").replace(path.with_name(path.stem.rpartition("_")[0] + path.suffix))
    path.unlink()


def _names(path: Path) -> str:
    query = "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'names'"
    (found,) = duckdb.connect().execute(query, [str(path)]).fetchone() or ("",)
    return str(found)


WITHOUT = "SELECT * FROM '{path}' WHERE NOT (name LIKE '%0001' %s)"
REPLACED = "SELECT * REPLACE (CASE WHEN name LIKE '%0001' THEN %s END AS %s) FROM '{path}'"


@pytest.mark.parametrize(
    "changed",
    [
        WITHOUT.replace("%s", "AND case_index = 0"),
        WITHOUT.replace("%s", ""),
        REPLACED.replace("%s", "'[' ELSE header", 1).replace("%s", "header"),
        REPLACED.replace("%s", "replace(header, '20T', '21T') ELSE header", 1).replace(
            "%s", "header"
        ),
        REPLACED.replace("%s", "CAST(NULL AS MAP(VARCHAR, DOUBLE[])) ELSE times_ms", 1).replace(
            "%s", "times_ms"
        ),
    ],
    ids=["case", "run", "header", "name", "times"],
)
def test_a_damaged_run_of_a_parquet_file_is_named_and_the_others_of_it_are_read(
    tmp_path: Path, changed: str
) -> None:
    store, runs = a_history(tmp_path, 1, 2, 3)
    compact(store)
    (path,) = (tmp_path / "compacted").glob("*.parquet")
    _damage(path, changed)
    again = open_store(tmp_path)

    stored = again.read(again.index().names)

    assert [run.header.id for run in stored.runs] == [run.id for run in runs[1:]]
    (problem,) = stored.problems
    assert problem.startswith(name_of(runs[0]).text)
    assert again.read_whole(name_of(runs[1])) == runs[1]
    assert compact(again).problems == ()


def test_a_parquet_file_that_is_none_is_named_and_the_rest_is_compacted(tmp_path: Path) -> None:
    store, _ = a_history(tmp_path, 1)
    store.place.write("compacted/x.parquet", b"none")

    done = compact(store)

    assert (done.n_folded, len(done.problems)) == (1, 1)
    assert done.problems[0].startswith("compacted/x.parquet: no whole Parquet file")
