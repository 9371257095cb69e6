from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.machine.allocator import (
    AllocatorCounters,
    FlushEvidence,
    FlushWatch,
    allocator_counters,
    flush_evidence,
    peak_memory_bytes,
    reset_peak_memory,
)

CPU = torch.device("cpu")
CUDA_0 = torch.device("cuda:0")
CUDA_1 = torch.device("cuda:1")
MPS = torch.device("mps")


def counters(
    *, frees: int | None = 0, retries: int | None = 0, allocs: int | None = 40
) -> AllocatorCounters:
    return AllocatorCounters(
        backend="native", n_device_frees=frees, n_retries=retries, n_device_allocs=allocs
    )


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
    torch.empty(64_000_000, device=CUDA_0)
    before = allocator_counters([CUDA_0])

    with FlushWatch() as watch:
        torch.cuda.empty_cache()
    after = allocator_counters([CUDA_0])

    assert watch.n_calls == 1
    assert flush_evidence(before, after) is FlushEvidence.FLUSHED
