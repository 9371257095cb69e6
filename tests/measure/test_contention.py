from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.machine.cpu import (
    SCHEDSTAT,
    ContentionMeter,
    RunQueue,
    contended_ratio,
    read_run_queue,
)

if TYPE_CHECKING:
    from pathlib import Path


class FakeKernel:
    """A schedstat file and a clock that the test moves by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_ns = 1_000
        self.tell(wait_ns=500)

    def tell(self, *, wait_ns: int, n_slices: int = 12) -> None:
        self.path.write_text(f"987654 {wait_ns} {n_slices}\n")

    def perf_counter_ns(self) -> int:
        return self.now_ns


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel(tmp_path / "schedstat")
    monkeypatch.setattr(time, "perf_counter_ns", fake.perf_counter_ns)
    return fake


@pytest.mark.parametrize(
    ("wait_ns", "between_ns", "ratio"), [(0, 400, 0.0), (100, 400, 0.25), (400, 400, 1.0)]
)
def test_the_ratio_is_the_wait_as_a_share_of_wall_time(
    wait_ns: int, between_ns: int, ratio: float
) -> None:
    start = RunQueue(1, 7_000, 90_000)
    end = RunQueue(1, 7_000 + wait_ns, 90_000 + between_ns)

    assert contended_ratio(start, end) == ratio


def test_readings_of_two_threads_have_no_ratio() -> None:
    assert contended_ratio(RunQueue(1, 0, 0), RunQueue(2, 10, 100)) is None


def test_a_missing_reading_has_no_ratio() -> None:
    reading = RunQueue(1, 0, 0)

    assert contended_ratio(None, reading) is None
    assert contended_ratio(reading, None) is None


@pytest.mark.parametrize(
    ("end", "numbers"),
    [
        (RunQueue(1, 40, 300), "grew by -10 ns in 100 ns"),
        (RunQueue(1, 60, 200), "grew by 10 ns in 0 ns"),
    ],
)
def test_a_clock_that_ran_backwards_is_refused_with_its_numbers(
    end: RunQueue, numbers: str
) -> None:
    with pytest.raises(InvalidMeasurement) as caught:
        contended_ratio(RunQueue(1, 50, 200), end)

    assert str(caught.value) == (
        f"the run-queue wait {numbers}; expected a wait of at least 0 ns in more than 0 ns: "
        f"a clock ran backwards"
    )


@given(
    wait_ns=st.integers(min_value=0, max_value=10**9),
    run_ns=st.integers(min_value=1, max_value=10**9),
    shift_ns=st.integers(min_value=0, max_value=10**15),
)
def test_the_ratio_does_not_depend_on_when_the_clocks_began(
    wait_ns: int, run_ns: int, shift_ns: int
) -> None:
    end = RunQueue(1, wait_ns, wait_ns + run_ns)
    later = RunQueue(1, wait_ns + shift_ns, wait_ns + run_ns + shift_ns)

    from_zero = contended_ratio(RunQueue(1, 0, 0), end)

    assert contended_ratio(RunQueue(1, shift_ns, shift_ns), later) == from_zero


def test_a_meter_reads_both_ends_of_the_interval(kernel: FakeKernel) -> None:
    meter = ContentionMeter(kernel.path)

    meter.start()
    kernel.now_ns += 2_000
    kernel.tell(wait_ns=1_000)

    assert meter.stop() == 0.25


def test_a_meter_can_be_started_again(kernel: FakeKernel) -> None:
    meter = ContentionMeter(kernel.path)
    meter.start()
    kernel.now_ns += 2_000
    kernel.tell(wait_ns=1_000)

    meter.start()
    kernel.now_ns += 100

    assert meter.stop() == 0.0


def test_a_system_without_the_file_has_no_share(tmp_path: Path) -> None:
    meter = ContentionMeter(tmp_path / "missing")

    meter.start()

    assert meter.stop() is None


def test_a_kernel_that_writes_zeros_is_unknown_and_not_idle(kernel: FakeKernel) -> None:
    kernel.tell(wait_ns=0, n_slices=0)

    assert read_run_queue(kernel.path) is None


def test_an_interval_that_ends_in_another_thread_has_no_share(kernel: FakeKernel) -> None:
    meter = ContentionMeter(kernel.path)
    starting = threading.Thread(target=meter.start)
    starting.start()
    starting.join()
    kernel.now_ns += 100

    assert meter.stop() is None


@pytest.mark.skipif(not SCHEDSTAT.exists(), reason="Linux with scheduler statistics only")
def test_a_real_interval_has_a_share() -> None:
    meter = ContentionMeter()

    meter.start()
    sum(range(100_000))
    share = meter.stop()

    assert share is not None
    assert 0 <= share <= 1
