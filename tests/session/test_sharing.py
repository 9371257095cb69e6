"""Tests and measurements of processes that share a device, the second one played by a thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.machine.turns import (
    ANY,
    PARENTS,
    Process,
    alone_on,
    may_meet,
    share_of,
    turn_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON_S = 30.0
"""Much longer than anything takes: only a test that fails waits for so long."""

DIES_IN_A_TEST = """\
import os, sys
from pathlib import Path
from pytest_vlmlatency.machine.turns import ANY, Process

with Process(Path(sys.argv[1]), share=ANY).in_test(None):
    os._exit(9)
"""


class Other:
    """What another process does: it has to wait, or is done."""

    def __init__(self, do: Callable[[Callable[[str], None]], None]) -> None:
        self.waits = threading.Event()
        self.is_done = False
        self._thread = threading.Thread(target=self._run, args=(do,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(SOON_S)

    def _run(self, do: Callable[[Callable[[str], None]], None]) -> None:
        do(lambda _text: self.waits.set())
        self.is_done = True


def a_test(process: Process) -> Other:
    def run(progress: Callable[[str], None]) -> None:
        with process.in_test(progress):
            pass

    return Other(run)


def a_measurement(process: Process, share: str = ANY) -> Other:
    def run(progress: Callable[[str], None]) -> None:
        with process.measuring(share, progress):
            pass

    return Other(run)


@pytest.fixture(autouse=True)
def _no_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin and end without those that threads leave behind: they share one environment."""
    monkeypatch.setenv(PARENTS, "")
    monkeypatch.delenv(PARENTS)


@pytest.fixture
def in_test_of() -> Callable[[Process], ExitStack]:
    """Let a process be in a test, of which threads do not know by their environment."""

    def begin(process: Process) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(process.in_test(None))
        os.environ.pop(PARENTS)
        return stack

    return begin


def two_processes(folder: Path, *shares: str) -> tuple[Process, Process]:
    one, two = shares or (ANY, ANY)
    return Process(folder, share=one), Process(folder, share=two)


def test_a_test_begins_once_the_measurement_of_another_process_has_ended(tmp_path: Path) -> None:
    one, two = two_processes(tmp_path)

    with one.measuring(ANY, None):
        other = a_test(two)
        has_waited = other.waits.wait(SOON_S)
        was_done = other.is_done
    other.end()

    assert (has_waited, was_done, other.is_done) == (True, False, True)


def test_a_measurement_begins_once_the_tests_of_other_processes_have_ended(
    tmp_path: Path, in_test_of: Callable[[Process], ExitStack]
) -> None:
    one, two = two_processes(tmp_path)

    with in_test_of(one):
        other = a_measurement(two)
        has_waited = other.waits.wait(SOON_S)
        was_done = other.is_done
    other.end()

    assert (has_waited, was_done, other.is_done) == (True, False, True)


def test_two_that_are_in_tests_and_want_to_measure_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    both_are_in_tests = threading.Barrier(2, timeout=SOON_S)

    def measured_in_a_test(process: Process) -> Other:
        def run(_progress: Callable[[str], None]) -> None:
            with process.in_test(None):
                both_are_in_tests.wait()
                os.environ.pop(PARENTS, None)
                with (
                    process.out_of_test(),
                    turn_on(["cpu"], folder=tmp_path, progress=None),
                    process.measuring(ANY, None),
                ):
                    pass

        return Other(run)

    others = [measured_in_a_test(process) for process in two_processes(tmp_path)]
    for other in others:
        other.end()

    assert [other.is_done for other in others] == [True, True]


def test_processes_with_devices_of_their_own_do_not_wait(
    tmp_path: Path, in_test_of: Callable[[Process], ExitStack]
) -> None:
    one, two = two_processes(tmp_path, "0", "1")

    with in_test_of(one):
        other = a_measurement(two, share="1")
        other.end()
    with two.measuring("1", None):
        a_third = a_test(one)
        a_third.end()

    assert (other.is_done, a_third.is_done) == (True, True)


def test_tests_that_measure_nothing_run_side_by_side(
    tmp_path: Path, in_test_of: Callable[[Process], ExitStack]
) -> None:
    one, two = two_processes(tmp_path)

    with in_test_of(one):
        other = a_test(two)
        other.end()

    assert other.is_done


def test_a_measurement_in_a_process_that_a_test_started_does_not_wait_for_that_test(
    tmp_path: Path,
) -> None:
    one, two = two_processes(tmp_path)

    with one.in_test(None):
        other = a_measurement(two)
        other.end()

    assert other.is_done
    assert PARENTS not in os.environ


def test_a_process_that_died_in_a_test_keeps_nobody_waiting(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_IN_A_TEST, str(tmp_path)], check=False)
    left = len(list(tmp_path.iterdir()))

    with alone_on(["cpu"], folder=tmp_path, progress=None) as waited_ms:
        waited = waited_ms

    assert (left, waited) == (1, 0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["cpu.lock"]


@pytest.mark.parametrize(
    ("one", "other", "do_meet"),
    [
        (ANY, "0", True),
        ("0", "0", True),
        ("0", "1", False),
        ("0,1", "1", True),
        ("GPU-a", "GPU-b", False),
        ("GPU-a", "0", True),
    ],
)
def test_two_processes_meet_on_a_device_that_both_may_see(
    one: str, other: str, *, do_meet: bool
) -> None:
    assert may_meet(one, other) is do_meet
    assert may_meet(other, one) is do_meet


def test_a_process_sees_what_its_masks_name() -> None:
    assert share_of({"CUDA_VISIBLE_DEVICES": "2"}) == "2"
    assert share_of({"CUDA_VISIBLE_DEVICES": ""}) == ANY
    assert share_of({}) == ANY
