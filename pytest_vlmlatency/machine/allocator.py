"""What the caching allocator did while a case was measured.

Two witnesses. `FlushWatch` counts calls that empty a cache, by standing in front of them; it sees
every spelling that goes through Python, and names no cause it did not see. The allocator's own
counters, read before and after a call, also show what never went through Python: a flush from C++,
memory pressure, an allocator that is still growing. Neither judges: `invariants` does.
"""

from __future__ import annotations

import functools
import sys
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

LOW_LEVEL_ENTRIES = (
    "_cuda_emptyCache",
    "_accelerator_emptyCache",
    "_xpu_emptyCache",
    "_mps_emptyCache",
    "_mtia_emptyCache",
)
PUBLIC_HOMES = (
    "torch.cuda",
    "torch.cuda.memory",
    "torch.accelerator",
    "torch.accelerator.memory",
    "torch.xpu",
    "torch.xpu.memory",
    "torch.mps",
    "torch.mtia",
)
NATIVE_BACKEND = "native"  # the only CUDA backend whose counters count; others report zeros or fail
PEAK_BACKENDS = (NATIVE_BACKEND, "cudaMallocAsync")


class FlushWatch:
    """Counts calls that empty a device's cache, in any thread, from entering until leaving it.

    On an accelerator every spelling is counted, since all end in torch's low-level entries. Without
    one, torch's functions return before they reach those, so the public functions are watched too:
    there only a function object imported before the watch began (`from torch.cuda import
    empty_cache`) goes unseen, and has nothing to empty. A call that passes both counts once.
    """

    def __init__(self) -> None:
        self._n_calls = 0

    @property
    def n_calls(self) -> int:
        """The number of calls so far; it never falls, and outlives the watch."""
        return self._n_calls

    def __enter__(self) -> FlushWatch:
        with _LOCK:
            assert self not in _WATCHES, "a watch counts once: it was entered twice"
            if not _WATCHES:
                _stand_in()
            _WATCHES.append(self)
        return self

    def __exit__(self, *_problem: object) -> None:
        with _LOCK:
            _WATCHES.remove(self)
            if not _WATCHES:
                _stand_back()

    def _count(self) -> None:
        self._n_calls += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorCounters:
    """The allocator's counts since the process began, summed over devices; None where unknown.

    `backend` is None where no device has a caching allocator: on the CPU.
    """

    backend: str | None
    n_device_frees: int | None = None
    n_retries: int | None = None
    n_device_allocs: int | None = None


class FlushEvidence(StrEnum):
    """What the counters say of the time between two readings, and (`basis`) what that rests on."""

    CLEAN = "clean"
    FLUSHED = "flushed"
    RETRIED = "retried"
    COLD = "cold"
    UNDETECTABLE = "undetectable"
    NO_ALLOCATOR = "no allocator"

    @property
    def basis(self) -> str:
        """A sentence on what was seen."""
        return _BASES[self]


_BASES: Mapping[FlushEvidence, str] = {
    FlushEvidence.CLEAN: "the allocator neither freed nor allocated device memory",
    FlushEvidence.FLUSHED: (
        "the allocator freed device memory although no allocation had failed: its cache was "
        "emptied by a call, or by its garbage_collection_threshold"
    ),
    FlushEvidence.RETRIED: (
        "an allocation failed, so the allocator emptied its cache and tried again: the device is "
        "out of memory"
    ),
    FlushEvidence.COLD: (
        "the allocator took more device memory: its cache was smaller than this call needed"
    ),
    FlushEvidence.UNDETECTABLE: (
        "the allocator's counters do not tell: its backend reports none, or they were reset"
    ),
    FlushEvidence.NO_ALLOCATOR: "the CPU has no caching allocator to empty",
}


def flush_evidence(before: AllocatorCounters, after: AllocatorCounters) -> FlushEvidence:
    """Return what the allocator did between two readings; the gravest finding is the one told."""
    if before.backend is None and after.backend is None:
        return FlushEvidence.NO_ALLOCATOR
    n_frees = _growth(before.n_device_frees, after.n_device_frees)
    n_retries = _growth(before.n_retries, after.n_retries)
    n_allocs = _growth(before.n_device_allocs, after.n_device_allocs)
    # Whoever holds a model has allocated: a total of zero is a counter that does not count.
    if n_frees is None or n_retries is None or n_allocs is None or not after.n_device_allocs:
        return FlushEvidence.UNDETECTABLE
    if n_retries:
        return FlushEvidence.RETRIED
    if n_frees:
        return FlushEvidence.FLUSHED
    return FlushEvidence.COLD if n_allocs else FlushEvidence.CLEAN


def allocator_counters(devices: Sequence[torch.device]) -> AllocatorCounters:
    """Return the counters of all accelerators among `devices`; read them outside the timed part.

    Only CUDA's native backend is known to count. Any other accelerator leaves the counts unknown.
    """
    accelerators = [device for device in devices if device.type != "cpu"]
    if not accelerators:
        return AllocatorCounters(backend=None)
    backends = sorted({_backend(device) for device in accelerators})
    if backends != [NATIVE_BACKEND]:
        return AllocatorCounters(backend=", ".join(backends))
    stats = [torch.cuda.memory_stats_as_nested_dict(device) for device in accelerators]
    return AllocatorCounters(
        backend=NATIVE_BACKEND,
        n_device_frees=_total(stats, "num_device_free"),
        n_retries=_total(stats, "num_alloc_retries"),
        n_device_allocs=_total(stats, "num_device_alloc"),
    )


def reset_peak_memory(devices: Sequence[torch.device]) -> None:
    """Start a new peak on every device that keeps one."""
    for device in devices:
        if _keeps_peak(device):
            getattr(torch, device.type).reset_peak_memory_stats(device)


def peak_memory_bytes(devices: Sequence[torch.device]) -> int | None:
    """Return the peak of allocated device memory since the reset, None where a device has none.

    Over several devices it is the sum of their peaks, which they need not have reached together.
    """
    accelerators = [device for device in devices if device.type != "cpu"]
    if not accelerators or not all(_keeps_peak(device) for device in accelerators):
        return None
    peaks_bytes = [
        int(getattr(torch, device.type).max_memory_allocated(device)) for device in accelerators
    ]
    return sum(peaks_bytes)


_LOCK = threading.RLock()
_WATCHES: list[FlushWatch] = []
_REPLACED: list[tuple[ModuleType, str, object, object]] = []
_DEPTH = threading.local()


def _stand_in() -> None:
    """Put a counting stand-in before each function that empties a cache, one for each function."""
    stand_ins: dict[object, object] = {}
    for module, name in _places():
        original = getattr(module, name)
        stand_in = stand_ins.setdefault(original, _counting(original))
        _REPLACED.append((module, name, original, stand_in))
        setattr(module, name, stand_in)


def _stand_back() -> None:
    """Undo `_stand_in`, leaving alone what someone else has replaced since."""
    while _REPLACED:
        module, name, original, stand_in = _REPLACED.pop()
        if getattr(module, name) is stand_in:
            setattr(module, name, original)


def _places() -> list[tuple[ModuleType, str]]:
    places = [(sys.modules["torch._C"], name) for name in LOW_LEVEL_ENTRIES]
    places += [(sys.modules[home], "empty_cache") for home in PUBLIC_HOMES if home in sys.modules]
    return [(module, name) for module, name in places if hasattr(module, name)]


def _counting(original: Callable[[], object]) -> Callable[[], object]:
    @functools.wraps(original)
    def stand_in(*args: object, **kwargs: object) -> object:
        depth = getattr(_DEPTH, "value", 0)
        if depth == 0:
            with _LOCK:
                for watch in _WATCHES:
                    watch._count()
        _DEPTH.value = depth + 1
        try:
            return original(*args, **kwargs)
        finally:
            _DEPTH.value = depth

    return stand_in


def _growth(before: int | None, after: int | None) -> int | None:
    if before is None or after is None or after < before:  # it only falls by a reset
        return None
    return after - before


def _backend(device: torch.device) -> str:
    return torch.cuda.get_allocator_backend() if device.type == "cuda" else device.type


def _total(stats: Sequence[Mapping[str, object]], name: str) -> int | None:
    counts = [count for each in stats if isinstance(count := each.get(name), int)]
    return sum(counts) if len(counts) == len(stats) else None


def _keeps_peak(device: torch.device) -> bool:
    return device.type == "xpu" or (device.type == "cuda" and _backend(device) in PEAK_BACKENDS)
