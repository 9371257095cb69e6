"""What is on disk of a profile: whole lines, of one experiment, by one process at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.profiling.ledger import Ledger
from tests.export.records import a_record

if TYPE_CHECKING:
    from pathlib import Path

MINE = {"model_name": "dummy:molmoe-nano"}
CONFIGURATION = a_record()["configuration"]


def _ledger(folder: Path, **fields: object) -> Ledger:
    return Ledger(folder, "coco", MINE | fields)


def _add(ledger: Ledger, *samples: str) -> None:
    ledger.add(
        [
            a_record(dataset="coco", sample=sample, model_name=MINE["model_name"])
            for sample in samples
        ]
    )


def test_what_was_added_is_there_the_next_time(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "1", "2", "2")
    ledger.close()

    again = _ledger(tmp_path)

    assert [again.count(CONFIGURATION, sample) for sample in "123"] == [1, 2, 0]
    assert again.n_records == 3
    assert (tmp_path / "coco" / "low-k4-b8.jsonl").is_file()


@pytest.mark.parametrize("n_bytes", [1, 100])
def test_a_line_that_was_not_finished_is_cut_off(tmp_path: Path, n_bytes: int) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "1")
    _add(ledger, "2")
    ledger.close()
    path = tmp_path / "coco" / "low-k4-b8.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-n_bytes])

    again = _ledger(tmp_path)

    assert [again.count(CONFIGURATION, sample) for sample in "12"] == [1, 0]
    _add(again, "2")
    assert path.read_bytes() == whole


def test_a_file_of_half_a_line_alone_is_empty_afterwards(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "low-k4-b8.jsonl").write_bytes(b"x" * 200_000)

    assert _ledger(tmp_path).n_records == 0


def test_records_of_another_model_are_refused(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "1")
    ledger.close()

    with pytest.raises(RecordsProblem, match="records of both would be mixed up"):
        _ledger(tmp_path, model_name="another")


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "x.jsonl").write_text("no JSON\n")

    with pytest.raises(RecordsProblem, match=r"line 1 cannot be gone on from: no whole JSON"):
        _ledger(tmp_path)


def test_two_processes_do_not_profile_into_one_folder(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)

    with pytest.raises(RecordsProblem, match="another process profiles into"):
        _ledger(tmp_path)
    ledger.close()
