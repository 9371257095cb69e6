"""A device of its own for each pytest-xdist worker, chosen before anything imports torch.

Worker gwK sees device K modulo the number of devices, and no other. The devices are counted
without torch: torch would fix the choice by looking. Where nothing can be counted, or there is one
device only, every worker sees the same and `turns` makes them take turns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

WORKER = "PYTEST_XDIST_WORKER"
CUDA = "CUDA_VISIBLE_DEVICES"
LEVEL_ZERO = "ZE_AFFINITY_MASK"
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def choose_device(environ: MutableMapping[str, str], *, named: str | None) -> None:
    """Leave one device visible to this worker; nothing changes outside a worker.

    Masks that are set already are divided among the workers. Without a mask, NVIDIA devices are
    counted; Intel's are not, since an integrated one may be among them. Where the user `named`
    the CPU or a device with its number, that is the choice, and every worker keeps seeing it.
    """
    index = _worker_index(environ)
    if index is None or (named is not None and (named == "cpu" or ":" in named)):
        return
    for variable in (CUDA, LEVEL_ZERO):
        visible = _listed(environ, variable)
        if visible is None and variable == CUDA:
            visible = [str(number) for number in range(count_nvidia_devices())]
        if visible:
            environ[variable] = visible[index % len(visible)]


def count_nvidia_devices(folder: Path = NVIDIA_GPUS) -> int:
    """Return how many NVIDIA devices the driver knows, 0 without a driver."""
    counted = _count_by_nvml()
    if counted is not None:
        return counted
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _count_by_nvml() -> int | None:
    try:
        import pynvml  # noqa: PLC0415 - an extra, and only a worker needs it
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def _worker_index(environ: Mapping[str, str]) -> int | None:
    digits = environ.get(WORKER, "").removeprefix("gw")
    return int(digits) if digits.isdecimal() else None


def _listed(environ: Mapping[str, str], variable: str) -> Sequence[str] | None:
    """Return the devices that a mask names, None without one; an empty mask hides them all."""
    if variable not in environ:
        return None
    return [name.strip() for name in environ[variable].split(",") if name.strip()]
