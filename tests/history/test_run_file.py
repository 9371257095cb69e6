from __future__ import annotations

import hashlib
import json
import re
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.history.checked_runs import parse
from pytest_vlmlatency.history.run_files import whole_run, write_run
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.plain import run_json, to_plain
from pytest_vlmlatency.records import (
    DIGEST,
    N_DIGEST_DIGITS,
    Environment,
    Run,
    digest_of_run,
)
from tests.cases import a_call, a_case
from tests.runs import a_run

if TYPE_CHECKING:
    from pathlib import Path

A_RUN = Run(
    started_at="2026-11-20T10:00:00+00:00",
    environment=Environment(machine={}, versions={"torch": "2.13.0"}, settings={}, devices=()),
    commit=None,
    cases=(a_case(config={"tier": "low", "top_k": 4}), a_case([a_call(vision_ms=0)])),
    lost=("tests/test_x.py::test_lost",),
    id="0123456789abcdef",
)


def test_a_written_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.json"

    write_run(A_RUN, path)

    assert whole_run(parse(path.read_bytes())) == A_RUN


def test_a_run_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("an earlier run")

    write_run(A_RUN, path)

    assert path.read_text(encoding="utf-8").startswith('{\n "started_at": "2026-11-20T10:00:00')
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_cannot_be_written_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("an earlier run")
    unwritable = replace(A_RUN, cases=(a_case(config={"knob": float("nan")}),))

    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_run(unwritable, path)

    assert path.read_text() == "an earlier run"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_replacing_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a_folder"
    path.mkdir()

    with pytest.raises(OSError, match="a_folder"):
        write_run(A_RUN, path)

    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_the_file_as_they_may_read_any_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    other = tmp_path / "other"
    other.touch()

    write_run(A_RUN, path)

    assert path.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("n_cases", [0, 1, 3])
def test_a_run_in_pieces_is_the_json_of_the_whole(n_cases: int, indent: int | None) -> None:
    run = a_run(cases=[a_case(name=f"test_{number} {{é}}") for number in range(n_cases)])
    plain = to_plain(run)
    compact = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    compact = re.sub(r"\.0([,\]}])", r"\1", compact)
    digest = hashlib.sha256(compact.encode()).hexdigest()[:N_DIGEST_DIGITS]

    text = run_json(run, indent=indent)

    assert text == json.dumps({**plain, DIGEST: digest}, indent=indent)
    assert digest_of_run(plain) == digest


def test_writing_a_run_holds_a_part_of_it_at_a_time(tmp_path: Path) -> None:
    run = a_run(cases=[a_case([a_call() for _ in range(10)], name=str(it)) for it in range(150)])
    path = tmp_path / "run.json"
    write_run(run, path)
    tracemalloc.start()
    try:
        write_run(run, path)
        open_store(tmp_path / "history").write(run)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < path.stat().st_size / 4
