from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock, Timeout

from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.machine import turns
from pytest_vlmlatency.machine.turns import alone_on, turn_on, turns_folder
from pytest_vlmlatency.measure import run, single
from pytest_vlmlatency.options import Options
from tests.zoo import Specimen, build

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """\
import sys
from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def is_free(folder: Path, place: str) -> bool:
    try:
        with FileLock(folder / f"{place}.lock", timeout=0):
            return True
    except Timeout:
        return False


def test_every_place_is_held_while_measuring_and_free_afterwards(tmp_path: Path) -> None:
    with turn_on(["cuda-a", "cpu"], folder=tmp_path, progress=None) as waited_ms:
        held = [is_free(tmp_path, "cpu"), is_free(tmp_path, "cuda-a")]

    assert held == [False, False]
    assert waited_ms == 0
    assert is_free(tmp_path, "cpu")
    assert is_free(tmp_path, "cuda-a")


def test_a_measurement_that_fails_frees_its_places(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="out of memory"),
        turn_on(["cpu"], folder=tmp_path, progress=None),
    ):
        raise ValueError("out of memory")

    assert is_free(tmp_path, "cpu")


def test_who_waits_says_so_and_goes_on_when_the_other_process_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "cpu.lock")]
    said: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        def let_go(text: str) -> None:
            said.append(text)
            threading.Timer(0.05, other.kill).start()

        with turn_on(["cpu"], folder=tmp_path, progress=let_go) as waited_ms:
            waited = waited_ms

    assert said == ["waiting for another measurement on cpu"]
    assert waited > 0


def test_two_that_want_the_same_places_take_them_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def acquire(_lock: FileLock, place: str, _progress: object) -> float:
        taken.append(place)
        return 0.0

    monkeypatch.setattr(turns, "_acquire", acquire)

    with turn_on(["cuda-b", "cpu", "cuda-a"], folder=tmp_path, progress=None):
        pass

    assert taken == ["cpu", "cuda-a", "cuda-b"]


def test_the_folder_is_the_users_own_in_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    folder = turns_folder()

    assert folder.parent == tmp_path
    assert folder.name.startswith("vlmlatency-")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert turns_folder() == folder


def test_a_folder_that_others_can_write_to_is_closed_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    turns_folder().chmod(0o777)

    assert turns_folder().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["a link", "another user's", "a file"])
def test_a_planted_folder_ends_the_run_before_any_test_and_is_left_alone(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, elsewhere = turns_folder(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    if planted == "another user's":
        uid = os.getuid()
        monkeypatch.setattr("pytest_vlmlatency.machine.turns.os.getuid", lambda: uid + 1)
        folder.rename(folder.with_name(f"vlmlatency-{uid + 1}"))
    else:
        folder.rmdir()
        folder.symlink_to(elsewhere) if planted == "a link" else folder.write_text("")
    pytester.makepyfile("def test_x(vlm_latency): pass")

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is not a folder of this user*set TMPDIR*"])
    assert list(elsewhere.iterdir()) == []


def test_a_measurement_inside_another_of_the_same_process_does_not_wait(tmp_path: Path) -> None:
    with (
        alone_on(["cpu"], folder=tmp_path, progress=None),
        alone_on(["cpu"], folder=tmp_path, progress=None) as waited_ms,
    ):
        held = not is_free(tmp_path, "cpu")

    assert held
    assert waited_ms == 0
    assert is_free(tmp_path, "cpu")


@pytest.fixture
def held_while_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Specimen, list[bool]]:
    """Return a model that notes at each generate() whether the turn on the CPU is taken."""
    monkeypatch.setattr("pytest_vlmlatency.machine.turns.turns_folder", lambda: tmp_path)
    for module in (run, single):
        monkeypatch.setattr(module, "alone_with", turns.alone_with)
    specimen, held = build("llava"), list[bool]()
    generate = specimen.generate

    def noting(*args: object, **kwargs: object) -> object:
        held.append(not is_free(tmp_path, "cpu"))
        return generate(*args, **kwargs)

    monkeypatch.setattr(specimen.model, "generate", noting)
    return specimen, held


def test_measure_generate_holds_the_turn(held_while_called: tuple[Specimen, list[bool]]) -> None:
    specimen, held = held_while_called

    run.measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=1)

    assert held
    assert all(held)


def test_a_call_that_is_inspected_holds_the_turn(
    held_while_called: tuple[Specimen, list[bool]],
) -> None:
    specimen, held = held_while_called
    target = find_target(specimen.generate, (), specimen.inputs, None)

    single.observe(target, Options(threads=0), report=lambda _text: None)

    assert held
    assert all(held)
