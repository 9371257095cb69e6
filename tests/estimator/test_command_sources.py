"""Which data sets a folder of results has: every record file is in one, whatever its form."""

import os
from pathlib import Path

import pytest

from pytest_vlmlatency.errors import EstimatorProblem, RecordsProblem
from pytest_vlmlatency.estimator.__main__ import main as train_main
from pytest_vlmlatency.estimator.commands.opening import data_sets, read_table
from pytest_vlmlatency.export import write_records
from tests.estimator.machines import simulated


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return a folder with a data set of each form, and one loose file."""
    folder = tmp_path / "results"
    names = ("coco/a.json", "okvqa/b.parquet", "mmmu/deep/c.jsonl", "loose.jsonl")
    for seed, name in enumerate(names):
        write_records(simulated(30, seed=seed), folder / name)
    return folder


def test_data_sets_of_all_forms_and_loose_files_are_found(results: Path) -> None:
    assert data_sets(results) == {
        "coco": (results / "coco",),
        "results": (results / "loose.jsonl",),
        "mmmu": (results / "mmmu",),
        "okvqa": (results / "okvqa",),
    }
    assert len(read_table(data_sets(results))) == 120


def test_training_says_all_that_it_reads(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main(["--results_dir", str(results), "--output_dir", str(tmp_path)]) == 0

    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("120 records of ")
    assert first.endswith("data sets: coco, results, mmmu, okvqa")


@pytest.mark.parametrize("name", ["okvqa", "mmmu", "results"])
def test_a_data_set_of_any_form_can_be_named(results: Path, name: str) -> None:
    assert len(read_table(data_sets(results, [name]))) == 30


def test_a_file_and_a_folder_of_files_are_one_data_set(results: Path) -> None:
    file = results / "okvqa" / "b.parquet"

    assert data_sets(file) == {"b.parquet": (file,)}
    assert data_sets(results / "okvqa") == {"okvqa": (file,)}


def test_the_folder_one_is_in_has_its_name(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(results)

    assert list(data_sets(Path())) == ["coco", "results", "mmmu", "okvqa"]


def test_a_folder_of_the_name_of_the_results_joins_the_loose_files(results: Path) -> None:
    write_records(simulated(30, seed=9), results / "results" / "d.json")

    assert len(read_table(data_sets(results, ["results"]))) == 60


def test_hidden_and_empty_folders_are_no_data_sets(results: Path) -> None:
    (results / "empty").mkdir()
    write_records(simulated(30, seed=9), results / ".cache" / "d.json")

    assert sorted(data_sets(results)) == ["coco", "mmmu", "okvqa", "results"]


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")

    with pytest.raises(RecordsProblem, match="has no record file in it"):
        data_sets(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "x" * 5000])
def test_a_place_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(
        (EstimatorProblem, RecordsProblem), match=r"there is no|cannot be looked at"
    ):
        data_sets(Path(name))


def test_a_pipe_among_results_is_said(results: Path) -> None:
    os.mkfifo(results / "pipe.jsonl")

    with pytest.raises(RecordsProblem, match="is neither a file nor a folder"):
        read_table(data_sets(results))


def test_an_output_folder_that_cannot_be_made_is_said(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")

    assert train_main(["--results_dir", str(results), "--output_dir", str(tmp_path / "file")]) == 1
    assert "cannot be written: " in capsys.readouterr().err
