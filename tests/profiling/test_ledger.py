"""What is on disk of a profile: whole lines, of one experiment, by one process at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.profiling.ledger import Ledger
from tests.export.records import a_record

if TYPE_CHECKING:
    from pathlib import Path

MINE = {
    "model_name": "dummy:molmoe-nano",
    "attention": "sdpa",
    "device": "cpu",
    "n_threads": 1,
}
CONFIGURATION = a_record()["configuration"]


def _ledger(folder: Path, *, n_new_tokens: int = 16, **fields: object) -> Ledger:
    return Ledger(folder, "coco", MINE | fields, n_new_tokens=dict.fromkeys("123", n_new_tokens))


def _add(ledger: Ledger, *samples: str) -> None:
    ledger.add(
        [a_record(dataset="coco", sample=sample, max_new_tokens=16) | MINE for sample in samples]
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


@pytest.mark.parametrize("former", ["/home/a/models/llava", "~/llava", "../llava"])
def test_records_that_name_a_local_model_by_its_path_are_gone_on_from(
    tmp_path: Path, former: str
) -> None:
    record = a_record(dataset="coco", sample="1", max_new_tokens=16) | MINE
    ledger = _ledger(tmp_path, model_name=former)
    ledger.add([record | {"model_name": former}])
    ledger.close()

    assert _ledger(tmp_path, model_name="llava").n_records == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_name": "another"}, 'has model_name "dummy:molmoe-nano", this profile "another":'),
        ({"attention": "eager"}, 'has attention "sdpa", this profile "eager":'),
        ({"n_threads": 2}, "has n_threads 1, this profile 2:"),
        ({"n_threads": 2, "device": "x"}, 'has device "cpu", this profile "x"; n_threads 1, this'),
        ({"n_new_tokens": 32}, "has max_new_tokens 16, this profile 32:"),
    ],
)
def test_records_of_another_experiment_are_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "1")
    ledger.close()

    with pytest.raises(RecordsProblem, match=f"line 1 {words}.*would be mixed up"):
        _ledger(tmp_path, **changed)


def test_a_sample_that_is_no_longer_asked_about_may_have_had_other_tokens(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "4")
    ledger.close()

    assert _ledger(tmp_path, n_new_tokens=32).n_records == 1


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(RecordsProblem, match=r"cannot be made: .*; name another folder"):
        _ledger(tmp_path / "file")


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "coco" / "x.jsonl").mkdir(parents=True)

    with pytest.raises(RecordsProblem, match=r"x\.jsonl cannot be gone on from"):
        _ledger(tmp_path)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "x.jsonl").write_text("no JSON\n")

    with pytest.raises(RecordsProblem, match=r"line 1 cannot be gone on from: no whole JSON"):
        _ledger(tmp_path)


def test_a_folder_that_cannot_be_locked_is_said(tmp_path: Path) -> None:
    (tmp_path / "coco" / ".profile.lock").mkdir(parents=True)

    with pytest.raises(RecordsProblem, match="coco cannot be written to: "):
        _ledger(tmp_path)


def test_two_processes_do_not_profile_into_one_folder(tmp_path: Path) -> None:
    ledger = _ledger(tmp_path)

    with pytest.raises(RecordsProblem, match="another process profiles into"):
        _ledger(tmp_path)
    ledger.close()


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        ('"T_LLM_decode": 40.0', '"T_LLM_decode": 40.00001'),
        ('"sample": "1"', '"sample": ["1"]'),
        ('"configuration": {', '"configuration": [], "other": {'),
    ],
)
def test_a_record_that_was_changed_is_not_gone_on_from(
    tmp_path: Path, was: str, is_now: str
) -> None:
    ledger = _ledger(tmp_path)
    _add(ledger, "1")
    ledger.close()
    path = tmp_path / "coco" / "low-k4-b8.jsonl"
    path.write_text(path.read_text().replace(was, is_now))

    with pytest.raises(RecordsProblem, match=r"line 1 cannot be gone on from, .*Remove that line"):
        _ledger(tmp_path)


def test_no_file_that_a_link_leads_to_is_cut_off_or_added_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("no end of line")
    (tmp_path / "profile" / "coco").mkdir(parents=True)
    (tmp_path / "profile" / "coco" / "low-k4-b8.jsonl").symlink_to(outside)

    with pytest.raises(RecordsProblem, match="cannot be gone on from"):
        _ledger(tmp_path / "profile")

    assert outside.read_text() == "no end of line"
