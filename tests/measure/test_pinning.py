from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.machine import cpu
from pytest_vlmlatency.machine.cpu import allowed_cores, pinned_threads
from tests.threads import torch_threads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MAIN = 100
OTHER = 101
EVERY_CORE = frozenset({0, 1, 2, 3})

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")


class FakeKernel:
    """Four cores and this process's threads, of which MAIN is the calling one."""

    def __init__(self, tasks: Path) -> None:
        self.tasks = tasks
        self.cores: dict[int, frozenset[int]] = {}
        self.start(MAIN, cores=EVERY_CORE)
        self.start(OTHER, cores=EVERY_CORE)

    def start(self, thread: int, *, cores: frozenset[int]) -> None:
        (self.tasks / str(thread)).mkdir()
        self.cores[thread] = cores

    def end(self, thread: int) -> None:
        """End a thread; its folder is still listed, as in a race."""
        del self.cores[thread]

    def getaffinity(self, thread: int) -> frozenset[int]:
        return self.cores[self._known(thread)]

    def setaffinity(self, thread: int, cores: Collection[int]) -> None:
        self.cores[self._known(thread)] = frozenset(cores)

    def _known(self, thread: int) -> int:
        if (thread or MAIN) not in self.cores:
            raise ProcessLookupError(thread)
        return thread or MAIN


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel(tmp_path)
    monkeypatch.setattr(cpu, "TASKS", fake.tasks)
    monkeypatch.setattr(cpu, "_HAS_AFFINITY", True)
    monkeypatch.setattr(os, "sched_getaffinity", fake.getaffinity, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", fake.setaffinity, raising=False)
    monkeypatch.setattr(threading, "get_native_id", lambda: MAIN)
    return fake


@pytest.fixture(autouse=True)
def n_threads_before() -> Iterator[int]:
    with torch_threads(3):
        yield 3
        assert torch.get_num_threads() == 3


# Threads


def test_torch_has_that_many_threads_inside_and_the_former_number_outside(
    n_threads_before: int,
) -> None:
    with pinned_threads(1):
        inside = torch.get_num_threads()

    assert (inside, torch.get_num_threads()) == (1, n_threads_before)


def test_threads_are_given_back_after_an_exception(n_threads_before: int) -> None:
    with pytest.raises(ZeroDivisionError), pinned_threads(1):
        raise ZeroDivisionError

    assert torch.get_num_threads() == n_threads_before


def test_zero_leaves_threads_and_cores_alone(kernel: FakeKernel, n_threads_before: int) -> None:
    with pinned_threads(0):
        assert torch.get_num_threads() == n_threads_before
        assert kernel.cores == {MAIN: EVERY_CORE, OTHER: EVERY_CORE}


@pytest.mark.usefixtures("kernel")
def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageProblem) as caught, pinned_threads(5):
        pass

    assert str(caught.value) == (
        "threads is 5, but this process may use 4 cores; "
        "expected at most 4, or 0 to leave threads and cores as they are"
    )


def test_cores_that_this_process_may_not_use_do_not_count(kernel: FakeKernel) -> None:
    kernel.cores[MAIN] = frozenset({2})

    with pytest.raises(UsageProblem, match="may use 1 cores"), pinned_threads(2):
        pass


# Cores


def test_one_thread_runs_on_the_last_allowed_core_and_others_stay_off_it(
    kernel: FakeKernel,
) -> None:
    kernel.cores[MAIN] = frozenset({0, 2})

    with pinned_threads(1):
        assert kernel.cores == {MAIN: {2}, OTHER: EVERY_CORE}

    assert kernel.cores == {MAIN: {0, 2}, OTHER: EVERY_CORE}


def test_several_threads_run_on_as_many_cores_with_torchs_workers(kernel: FakeKernel) -> None:
    with pinned_threads(2):
        assert kernel.cores == {MAIN: {2, 3}, OTHER: {2, 3}}

    assert kernel.cores == {MAIN: EVERY_CORE, OTHER: EVERY_CORE}


def test_each_thread_gets_back_the_cores_it_had(kernel: FakeKernel) -> None:
    kernel.cores[OTHER] = frozenset({1})

    with pinned_threads(2):
        pass

    assert kernel.cores == {MAIN: EVERY_CORE, OTHER: {1}}


def test_cores_are_given_back_after_an_exception(kernel: FakeKernel) -> None:
    with pytest.raises(ZeroDivisionError), pinned_threads(1):
        raise ZeroDivisionError

    assert kernel.cores == {MAIN: EVERY_CORE, OTHER: EVERY_CORE}


def test_a_thread_born_inside_is_free_outside(kernel: FakeKernel) -> None:
    with pinned_threads(1):
        kernel.start(102, cores=kernel.cores[MAIN])

    assert kernel.cores[102] == EVERY_CORE


def test_a_thread_that_chose_its_own_cores_inside_keeps_them(kernel: FakeKernel) -> None:
    with pinned_threads(2):
        kernel.cores[OTHER] = frozenset({0})

    assert kernel.cores[OTHER] == {0}


def test_a_thread_that_ends_inside_is_no_problem(kernel: FakeKernel) -> None:
    with pinned_threads(2):
        kernel.end(OTHER)

    assert kernel.cores == {MAIN: EVERY_CORE}


def test_without_affinity_the_thread_count_alone_is_set(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_HAS_AFFINITY", False)

    with pinned_threads(1):
        inside = torch.get_num_threads()

    assert inside == 1
    assert kernel.cores == {MAIN: EVERY_CORE, OTHER: EVERY_CORE}


@linux_only
def test_a_real_thread_is_pinned_inside_and_free_outside() -> None:
    before = allowed_cores()

    with pinned_threads(1):
        inside = allowed_cores()

    assert inside == {max(before)}
    assert allowed_cores() == before


@linux_only
def test_a_real_thread_born_inside_is_free_outside() -> None:
    before = allowed_cores()
    may_end = threading.Event()
    with pinned_threads(1):
        thread = threading.Thread(target=may_end.wait)
        thread.start()

    after = frozenset(os.sched_getaffinity(thread.native_id or 0))
    may_end.set()
    thread.join()

    assert after == before
