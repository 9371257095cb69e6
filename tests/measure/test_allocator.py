from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.measure.allocator import (
    LOW_LEVEL_ENTRIES,
    PUBLIC_HOMES,
    AllocatorCounters,
    FlushEvidence,
    FlushWatch,
    allocator_counters,
    flush_evidence,
    peak_memory_bytes,
    reset_peak_memory,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
CUDA_0 = torch.device("cuda:0")
CUDA_1 = torch.device("cuda:1")
MPS = torch.device("mps")

imported_early = torch.cuda.empty_cache


def everything_watched() -> dict[str, object]:
    low_level = {name: getattr(torch._C, name, None) for name in LOW_LEVEL_ENTRIES}
    public = {home: getattr(sys.modules[home], "empty_cache", None) for home in PUBLIC_HOMES}
    return {**low_level, **public}


def unless_refused(flush: Callable[[], None]) -> None:
    """Call a flush that torch refuses on a host without an accelerator."""
    with suppress(RuntimeError):
        flush()


class FakeCuda:
    """A CUDA build as torch's Python part sees it: initialised, and able to flush."""

    def __init__(self) -> None:
        self.n_flushes = 0

    def empty(self) -> None:
        self.n_flushes += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(torch._C, "_cuda_emptyCache", fake.empty, raising=False)
    monkeypatch.setattr(torch.cuda.memory, "is_initialized", lambda: True)
    return fake


def counters(
    *, frees: int | None = 0, retries: int | None = 0, allocs: int | None = 40
) -> AllocatorCounters:
    return AllocatorCounters(
        backend="native", n_device_frees=frees, n_retries=retries, n_device_allocs=allocs
    )


# Calls that empty a cache, counted on the host that the tests run on


@pytest.mark.parametrize(
    "flush",
    [
        pytest.param(lambda: torch.cuda.empty_cache(), id="cuda"),
        pytest.param(lambda: torch.cuda.memory.empty_cache(), id="cuda.memory"),
        pytest.param(lambda: unless_refused(torch.accelerator.empty_cache), id="accelerator"),
        pytest.param(
            lambda: unless_refused(torch.accelerator.memory.empty_cache), id="accelerator.memory"
        ),
        pytest.param(lambda: torch.xpu.empty_cache(), id="xpu"),
        pytest.param(lambda: torch.xpu.memory.empty_cache(), id="xpu.memory"),
    ],
)
def test_every_public_spelling_counts_once_without_an_accelerator(
    flush: Callable[[], None],
) -> None:
    with FlushWatch() as watch:
        flush()

    assert watch.n_calls == 1


def test_a_name_imported_during_the_watch_is_counted() -> None:
    with FlushWatch() as watch:
        from torch.cuda import empty_cache  # noqa: PLC0415 - the moment of the import is the point

        empty_cache()

    assert watch.n_calls == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a flush with nothing to empty needs no CUDA")
def test_a_name_imported_before_the_watch_is_unseen_where_it_has_nothing_to_empty() -> None:
    with FlushWatch() as watch:
        imported_early()

    assert watch.n_calls == 0


def test_nothing_is_counted_before_or_after_the_watch() -> None:
    watch = FlushWatch()
    torch.cuda.empty_cache()
    with watch:
        pass
    torch.cuda.empty_cache()

    assert watch.n_calls == 0


def test_the_count_can_be_read_while_the_watch_is_held() -> None:
    with FlushWatch() as watch:
        torch.cuda.empty_cache()
        n_before = watch.n_calls
        torch.cuda.empty_cache()

        assert (n_before, watch.n_calls) == (1, 2)


# Calls on an accelerator, which pass through torch's low-level entry as well


def test_a_call_through_both_layers_counts_once_and_flushes_once(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        torch.cuda.empty_cache()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_a_name_imported_before_the_watch_is_counted_on_an_accelerator(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        imported_early()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_the_low_level_entry_itself_is_counted(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        torch._C._cuda_emptyCache()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_a_flush_that_raises_is_counted_and_the_next_one_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(torch._C, "_mps_emptyCache", fail, raising=False)
    with FlushWatch() as watch:
        with pytest.raises(RuntimeError, match="device lost"):
            torch.mps.empty_cache()
        torch.cuda.empty_cache()

    assert watch.n_calls == 2


# What the watch leaves behind


def test_every_function_is_the_same_object_after_the_watch() -> None:
    before = everything_watched()

    with FlushWatch():
        during = everything_watched()

    assert everything_watched() == before
    assert during["torch.cuda"] is not before["torch.cuda"]
    assert during["_accelerator_emptyCache"] is not before["_accelerator_emptyCache"]


def test_every_function_is_restored_after_an_exception() -> None:
    before = everything_watched()

    with pytest.raises(ZeroDivisionError), FlushWatch():
        raise ZeroDivisionError

    assert everything_watched() == before


def test_a_function_that_someone_replaced_during_the_watch_is_left_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def theirs() -> None:
        pass

    monkeypatch.setattr(torch.cuda, "empty_cache", torch.cuda.empty_cache)
    with FlushWatch():
        torch.cuda.empty_cache = theirs

    assert torch.cuda.empty_cache is theirs


def test_a_watch_inside_another_counts_for_both() -> None:
    with FlushWatch() as outer:
        torch.cuda.empty_cache()
        with FlushWatch() as inner:
            torch.cuda.empty_cache()
        torch.cuda.empty_cache()

    assert (outer.n_calls, inner.n_calls) == (3, 1)


def test_two_watches_may_end_in_the_order_they_began() -> None:
    before = everything_watched()
    first, second = FlushWatch(), FlushWatch()

    first.__enter__()
    second.__enter__()
    first.__exit__()
    torch.cuda.empty_cache()
    second.__exit__()

    assert (first.n_calls, second.n_calls) == (0, 1)
    assert everything_watched() == before


def test_entering_a_watch_twice_is_refused_and_leaves_it_working() -> None:
    with FlushWatch() as watch:
        with pytest.raises(AssertionError, match="entered twice"):
            watch.__enter__()
        torch.cuda.empty_cache()

    assert watch.n_calls == 1


def test_a_flush_in_another_thread_is_counted() -> None:
    with FlushWatch() as watch:
        thread = threading.Thread(target=torch.cuda.empty_cache)
        thread.start()
        thread.join()

    assert watch.n_calls == 1


def test_a_flush_in_another_thread_is_counted_while_this_one_is_inside_a_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flush_elsewhere() -> None:
        thread = threading.Thread(target=torch.cuda.empty_cache)
        thread.start()
        thread.join()

    monkeypatch.setattr(torch._C, "_mps_emptyCache", flush_elsewhere, raising=False)
    with FlushWatch() as watch:
        torch.mps.empty_cache()

    assert watch.n_calls == 2


# What the allocator's counters say


def test_unchanged_counters_are_clean() -> None:
    assert flush_evidence(counters(), counters()) is FlushEvidence.CLEAN


def test_frees_without_a_retry_are_a_flush() -> None:
    before = counters(frees=3, retries=1)
    after = counters(frees=9, retries=1, allocs=46)

    assert flush_evidence(before, after) is FlushEvidence.FLUSHED


def test_frees_after_a_failed_allocation_are_a_retry() -> None:
    assert flush_evidence(counters(), counters(frees=6, retries=1)) is FlushEvidence.RETRIED


def test_allocations_without_frees_are_a_cold_allocator() -> None:
    assert flush_evidence(counters(allocs=40), counters(allocs=41)) is FlushEvidence.COLD


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(counters(frees=None), id="no frees"),
        pytest.param(counters(retries=None), id="no retries"),
        pytest.param(counters(allocs=None), id="no allocations"),
        pytest.param(counters(allocs=39), id="reset in between"),
    ],
)
def test_counters_that_do_not_tell_are_undetectable_and_never_clean(
    after: AllocatorCounters,
) -> None:
    assert flush_evidence(counters(), after) is FlushEvidence.UNDETECTABLE


def test_counters_that_stay_at_zero_are_undetectable_and_never_clean() -> None:
    zero = counters(allocs=0)

    assert flush_evidence(zero, zero) is FlushEvidence.UNDETECTABLE


def test_the_cpu_has_no_allocator_to_flush() -> None:
    nothing = allocator_counters([CPU])

    assert flush_evidence(nothing, nothing) is FlushEvidence.NO_ALLOCATOR


counts = st.integers(min_value=0, max_value=1000)


@given(frees=counts, retries=counts, allocs=counts, more=counts)
def test_only_equal_counters_are_clean(frees: int, retries: int, allocs: int, more: int) -> None:
    before = counters(frees=frees, retries=retries, allocs=allocs + 1)
    after = counters(frees=frees + more, retries=retries, allocs=allocs + 1)

    is_clean = flush_evidence(before, after) is FlushEvidence.CLEAN

    assert is_clean is (more == 0)


@pytest.mark.parametrize("evidence", FlushEvidence)
def test_every_evidence_says_what_it_rests_on(evidence: FlushEvidence) -> None:
    assert evidence.basis.endswith(
        {
            FlushEvidence.CLEAN: "neither freed nor allocated device memory",
            FlushEvidence.FLUSHED: "by a call, or by its garbage_collection_threshold",
            FlushEvidence.RETRIED: "the device is out of memory",
            FlushEvidence.COLD: "its cache was smaller than this call needed",
            FlushEvidence.UNDETECTABLE: "its backend reports none, or they were reset",
            FlushEvidence.NO_ALLOCATOR: "the CPU has no caching allocator to empty",
        }[evidence]
    )


# Reading the counters


def a_cuda_allocator(monkeypatch: pytest.MonkeyPatch, *, backend: str = "native") -> None:
    stats = {
        CUDA_0: {
            "num_device_free": 1,
            "num_alloc_retries": 0,
            "num_device_alloc": 20,
            "segment": {},
        },
        CUDA_1: {
            "num_device_free": 2,
            "num_alloc_retries": 3,
            "num_device_alloc": 30,
            "segment": {},
        },
    }
    peaks_bytes = {CUDA_0: 700, CUDA_1: 50}
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", stats.__getitem__)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peaks_bytes.__getitem__)


def test_counters_are_summed_over_devices_and_skip_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cuda_allocator(monkeypatch)

    read = allocator_counters([CUDA_0, CPU, CUDA_1])

    assert read == counters(frees=3, retries=3, allocs=50)


def test_counters_are_unknown_before_cuda_is_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    monkeypatch.setattr(torch.cuda, "memory_stats_as_nested_dict", lambda _device: {})

    assert allocator_counters([CUDA_0]) == counters(frees=None, retries=None, allocs=None)


@pytest.mark.parametrize("backend", ["cudaMallocAsync", "pluggable"])
def test_a_backend_that_does_not_count_is_undetectable(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    a_cuda_allocator(monkeypatch, backend=backend)

    read = allocator_counters([CUDA_0])

    assert read == AllocatorCounters(backend=backend)
    assert flush_evidence(read, read) is FlushEvidence.UNDETECTABLE


def test_an_accelerator_without_such_counters_is_undetectable() -> None:
    read = allocator_counters([MPS])

    assert flush_evidence(read, read) is FlushEvidence.UNDETECTABLE


# Peak memory


def test_the_cpu_has_no_peak() -> None:
    reset_peak_memory([CPU])

    assert peak_memory_bytes([CPU]) is None


def test_the_peak_is_the_sum_of_the_devices_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cuda_allocator(monkeypatch)

    assert peak_memory_bytes([CUDA_0, CPU, CUDA_1]) == 750


def test_a_device_without_a_peak_leaves_it_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cuda_allocator(monkeypatch)

    assert peak_memory_bytes([CUDA_0, MPS]) is None


def test_an_allocator_that_keeps_no_peak_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cuda_allocator(monkeypatch, backend="pluggable")

    assert peak_memory_bytes([CUDA_0]) is None


def test_a_reset_reaches_every_device_that_keeps_a_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    a_cuda_allocator(monkeypatch)
    reset: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)

    reset_peak_memory([CUDA_0, CPU, MPS, CUDA_1])

    assert reset == [CUDA_0, CUDA_1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_real_flush_is_counted_and_seen_in_the_counters() -> None:
    device = torch.device("cuda:0")
    torch.empty(64_000_000, device=device)
    before = allocator_counters([device])

    with FlushWatch() as watch:
        imported_early()
    after = allocator_counters([device])

    assert watch.n_calls == 1
    assert flush_evidence(before, after) is FlushEvidence.FLUSHED
