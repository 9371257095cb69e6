from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import whole_files
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.gate.pins import Pin, add_pin, pin_file, pin_of, read_pins
from pytest_vlmlatency.whole_files import NotWritten, locked

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = "0123456789ab"


def a_pin(run: str = "1" * 16, *, cases: tuple[str, ...] | None = None) -> Pin:
    return Pin(
        run=run,
        commit="a" * 40,
        started_at="2026-11-01T02:00:00+00:00",
        accepted_on="2026-11-02",
        why="a larger model",
        cases=cases,
    )


def test_a_pin_survives_a_trip_through_its_file(tmp_path: Path) -> None:
    path = add_pin(tmp_path, MACHINE, a_pin(cases=("a", "b")), machine=["cores: 2"])

    assert path == tmp_path / ".vlm_accepted" / f"{MACHINE}.json"
    assert read_pins(tmp_path, MACHINE) == (a_pin(cases=("a", "b")),)
    assert json.loads(path.read_text())["machine"] == ["cores: 2"]


def test_a_machine_without_a_file_has_no_pins(tmp_path: Path) -> None:
    assert read_pins(tmp_path, MACHINE) == ()


def test_the_pin_that_was_set_last_for_a_case_is_its_own() -> None:
    pins = (a_pin("1" * 16), a_pin("2" * 16, cases=("a",)))

    assert pin_of(pins, "a") is pins[1]
    assert pin_of(pins, "b") is pins[0]


def test_a_pin_of_a_case_holds_under_the_id_that_earlier_versions_gave_it() -> None:
    pins = (a_pin("1" * 16, cases=("tests/test_x.py::test_a",)),)

    assert pin_of(pins, "one/tests/test_x.py::test_a", "tests/test_x.py::test_a") is pins[0]
    assert pin_of(pins, "one/tests/test_x.py::test_a", None) is None


def test_a_pin_of_all_cases_takes_the_place_of_those_of_some(tmp_path: Path) -> None:
    add_pin(tmp_path, MACHINE, a_pin("1" * 16, cases=("a",)), machine=[])
    add_pin(tmp_path, MACHINE, a_pin("2" * 16), machine=[])

    assert read_pins(tmp_path, MACHINE) == (a_pin("2" * 16),)


def test_a_pin_of_some_cases_stands_beside_the_one_of_all(tmp_path: Path) -> None:
    add_pin(tmp_path, MACHINE, a_pin("1" * 16), machine=[])
    add_pin(tmp_path, MACHINE, a_pin("2" * 16, cases=("a",)), machine=[])

    assert [pin.run for pin in read_pins(tmp_path, MACHINE)] == ["1" * 16, "2" * 16]


def test_two_that_accept_at_once_do_not_write_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_files, "LOCK_TIMEOUT_S", 0.0)
    path = add_pin(tmp_path, MACHINE, a_pin(cases=("a",)), machine=[])

    with locked(path.parent), pytest.raises(NotWritten, match="another process"):
        add_pin(tmp_path, MACHINE, a_pin(cases=("b",)), machine=[])

    assert read_pins(tmp_path, MACHINE) == (a_pin(cases=("a",)),)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        '{"schema": 9, "accepted": []}',
        '{"schema": 1, "accepted": [{"run": "1"}]}',
        '{"schema": 1, "accepted": [1]}',
        "[" * 10**5,
        "\udcff",
    ],
    ids=range(7),
)
def test_a_file_that_cannot_be_read_is_an_error_and_not_no_pin(tmp_path: Path, text: str) -> None:
    path = pin_file(tmp_path, MACHINE)
    path.parent.mkdir()
    path.write_text(text, errors="surrogateescape")

    with pytest.raises(UsageProblem, match="is not a file of accepted runs"):
        read_pins(tmp_path, MACHINE)


@pytest.mark.parametrize("place", ["a folder", "a device"])
def test_what_is_no_file_holds_no_pins(tmp_path: Path, place: str) -> None:
    path = pin_file(tmp_path, MACHINE)
    path.parent.mkdir()
    if place == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")

    with pytest.raises(UsageProblem, match="it is no regular file"):
        read_pins(tmp_path, MACHINE)


@pytest.mark.parametrize("name", ["run", "why", "accepted_on", "started_at"])
def test_a_pin_holds_texts_as_they_are(tmp_path: Path, name: str) -> None:
    path = add_pin(tmp_path, MACHINE, a_pin(), machine=[])
    plain = json.loads(path.read_text())
    plain["accepted"][0][name] = {"a": 1}
    path.write_text(json.dumps(plain))

    with pytest.raises(UsageProblem, match="stands where a text is expected"):
        read_pins(tmp_path, MACHINE)


@pytest.mark.parametrize("commit", ["--output=x", "main", "origin/main", "abc123", "A" * 40, 1])
def test_a_pin_holds_nothing_but_the_id_of_a_commit(tmp_path: Path, commit: object) -> None:
    path = add_pin(tmp_path, MACHINE, a_pin(), machine=[])
    plain = json.loads(path.read_text())
    plain["accepted"][0]["commit"] = commit
    path.write_text(json.dumps(plain))

    with pytest.raises(UsageProblem, match="is not a file of accepted runs"):
        read_pins(tmp_path, MACHINE)
    with pytest.raises(UsageProblem):
        replace(a_pin(), commit=str(commit))
