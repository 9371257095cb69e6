"""Which of the processes that the driver lists are of others."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.machine import device_state
from pytest_vlmlatency.machine.device_state import n_others

if TYPE_CHECKING:
    from pathlib import Path

OWN, PARENT, SIBLING, STRANGER = 100, 90, 101, 102
WITHOUT_GPU, WITH_GPU = "/dev/null", "/dev/nvidiactl"


def a_process(proc: Path, pid: int, parent: int, *, opened: str = WITHOUT_GPU) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "fd" / "0").symlink_to(opened)
    status = f"{pid} (python (x) y) S {parent} 90 90 0 -1 4194304\n"
    (folder / "stat").write_text(status, encoding="utf-8")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process be 100, a child of 90, which is a child of 1; 102 is somebody else's."""
    monkeypatch.setattr(device_state, "PROC", tmp_path)
    monkeypatch.setattr(os, "getpid", lambda: OWN)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    a_process(tmp_path, 1, 0)
    a_process(tmp_path, PARENT, 1)
    a_process(tmp_path, OWN, PARENT, opened=WITH_GPU)
    a_process(tmp_path, SIBLING, PARENT, opened=WITH_GPU)
    a_process(tmp_path, STRANGER, 1)
    return tmp_path


@pytest.mark.usefixtures("proc")
@pytest.mark.parametrize(
    ("listed", "number"),
    [
        ([OWN], 0),
        ([OWN, STRANGER], 1),
        ([7, OWN, 8, STRANGER], 3),
        ([OWN, OWN, 7], 1),
        ([OWN, PARENT, 1], 0),
        ([OWN, SIBLING], 1),
        (None, None),
        ([], None),
    ],
)
def test_all_but_this_process_and_those_that_started_it_are_others(
    listed: list[int] | None, number: int | None
) -> None:
    assert n_others(listed) == number


@pytest.mark.usefixtures("proc")
@pytest.mark.parametrize(
    ("listed", "number"),
    [([OWN, SIBLING], 0), ([OWN, SIBLING, PARENT], 0), ([OWN, STRANGER], 1), ([7, 8], None)],
)
def test_workers_of_the_same_run_are_no_others(
    listed: list[int], number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    assert n_others(listed) == number


@pytest.mark.usefixtures("proc")
@pytest.mark.parametrize(("listed", "number"), [([7], None), ([7, 8], 1), ([7, 8, 9], 2)])
def test_where_numbers_are_the_hosts_one_of_the_listed_is_this_process(
    listed: list[int], number: int | None
) -> None:
    assert n_others(listed) == number


def test_where_numbers_are_the_hosts_a_parent_with_a_gpu_open_may_be_among_them(
    proc: Path,
) -> None:
    (proc / str(PARENT) / "fd" / "1").symlink_to("/dev/nvidia0")

    assert n_others([7, 8]) is None
    assert n_others([7, 8, 9]) == 1


def test_where_numbers_are_the_hosts_a_parent_whose_files_are_hidden_may_be_among_them(
    proc: Path,
) -> None:
    (proc / "1" / "fd" / "0").unlink()
    (proc / "1" / "fd").rmdir()

    assert n_others([7, 8]) is None


def test_without_such_a_folder_the_numbers_alone_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device_state, "PROC", tmp_path / "none")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")

    assert n_others([os.getpid(), 0]) == 1


def test_the_systems_own_processes_are_read() -> None:
    code = f"{device_state.__name__}.n_others([os.getpid(), {os.getpid()}, os.getppid()])"
    done = subprocess.run(
        [sys.executable, "-c", f"import os, {device_state.__name__}; print({code})"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "0\n"
