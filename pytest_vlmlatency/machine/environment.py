"""The machine, the software and the settings that a run was measured with.

Only what is named here is read: no host name, user, path, URL, argument, and of the environment's
variables only the few in `VARIABLES`, in so far as their value is a number, and the known keys of
the allocator's own. What a machine does not tell is None.

Which fingerprints the runs of this machine may have: without, and with each of its devices.

Imports torch, which knows the devices; loaded only where nobody named a machine.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.machine.device_state import NvmlUnavailable, cuda_uuid, open_driver
from pytest_vlmlatency.records import Environment, fingerprint_of
from pytest_vlmlatency.versions import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.records import Scalar


PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "tokenizers",
    "safetensors",
    "accelerate",
    "triton",
    "flash-attn",
    "bitsandbytes",
    "pillow",
    "torchvision",
    "pytest",
    "pytest-benchmark",
    "pytest-xdist",
)

VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_LAUNCH_BLOCKING",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
_NUMERIC = re.compile(r"[0-9:,]{1,32}")

ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
ALLOCATOR_KEYS = (
    "backend",
    "expandable_segments",
    "garbage_collection_threshold",
    "max_non_split_rounding_mb",
    "max_split_size_mb",
    "per_process_memory_fraction",
    "pinned_use_background_threads",
    "pinned_use_cuda_host_register",
    "roundup_power2_divisions",
)
# A value is one word or number, or a list of numbers in brackets: nothing else is copied.
_ALLOCATOR_SETTING = re.compile(
    rf"(?:^|,)\s*({'|'.join(ALLOCATOR_KEYS)})\s*:\s*"
    r"(native|cudaMallocAsync|True|False|[0-9.]+|\[[0-9:>,]*\])\s*(?=,|$)"
)

CPUINFO = Path("/proc/cpuinfo")


def read_environment(devices: Sequence[torch.device]) -> Environment:
    """Return what a reader needs to know of this machine to believe, or to repeat, a run."""
    return Environment(
        machine=_machine(),
        versions=_versions(),
        settings={
            **_thread_settings(),
            **_arithmetic_settings(),
            **_allocator_settings(devices),
            **_variables(os.environ),
        },
        devices=tuple(_device(device) for device in devices if device.type != "cpu"),
    )


def _machine() -> dict[str, Scalar]:
    return {
        "cpu": _cpu_model(),
        "n_cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
    }


def _cpu_model() -> str | None:
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None) or platform.processor() or None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system has these names
        return None


def _versions() -> dict[str, str]:
    versions = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "pytest-vlmlatency": __version__,
        **{name: found for name in PACKAGES if (found := _installed(name)) is not None},
        "torch": str(torch.__version__),  # with its build, which a package's own data may leave out
    }
    built_for = {"cuda": torch.version.cuda, "hip": torch.version.hip, "cudnn": _cudnn_version()}
    return versions | {name: found for name, found in built_for.items() if found is not None}


def _cudnn_version() -> str | None:
    found: object = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # torch's own
    return None if found is None else str(found)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _thread_settings() -> dict[str, Scalar]:
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "n_threads": torch.get_num_threads(),
        "n_interop_threads": torch.get_num_interop_threads(),
        "n_allowed_cores": len(os.sched_getaffinity(0)) if has_affinity else None,
    }


def _arithmetic_settings() -> dict[str, Scalar]:
    """Return what lets a kernel trade precision or repeatability for speed."""
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda_matmul_precision": _float32_precision(torch.backends.cuda.matmul),
        "cudnn_conv_precision": _float32_precision(torch.backends.cudnn, new_home="conv"),
    }


def _float32_precision(backend: object, *, new_home: str | None = None) -> str:
    """Return "ieee", "tf32", or "none" for the default: torch 2.9's words, for older ones too.

    The newer setting is asked first: the older one raises once a program has used the newer.
    """
    newer = getattr(backend, new_home, None) if new_home else backend
    precision = getattr(newer, "fp32_precision", None)
    if precision is not None:
        return str(precision)
    return "tf32" if getattr(backend, "allow_tf32", False) else "ieee"


def _allocator_settings(devices: Sequence[torch.device]) -> dict[str, Scalar]:
    settings: dict[str, Scalar] = {}
    if any(device.type == "cuda" for device in devices):
        settings["allocator_backend"] = torch.cuda.get_allocator_backend()
    for variable in ALLOCATOR_VARIABLES:
        for key, value in _ALLOCATOR_SETTING.findall(os.environ.get(variable, "")):
            settings[f"{variable}:{key}"] = value
    return settings


def _variables(environ: Mapping[str, str]) -> dict[str, Scalar]:
    return {
        name: environ[name] if _NUMERIC.fullmatch(environ[name]) else "not a number"
        for name in VARIABLES
        if name in environ
    }


def _device(device: torch.device) -> dict[str, Scalar]:
    if device.type != "cuda":
        return {"device": str(device), "name": _device_name(device)}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": str(device),
        "name": properties.name,
        "uuid": cuda_uuid(device),
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        **_driver_facts(device),
    }


def _device_name(device: torch.device) -> str | None:
    """Return an accelerator's own name where torch tells it: for XPU, not for MPS."""
    ask = getattr(getattr(torch, device.type), "get_device_name", None)
    return None if ask is None else str(ask(device))


def _driver_facts(device: torch.device) -> dict[str, Scalar]:
    try:
        with open_driver() as driver:
            handle = driver.find(device)
            return {
                "driver": driver.text("nvmlSystemGetDriverVersion"),
                "power_limit_w": driver.watts("nvmlDeviceGetEnforcedPowerLimit", handle),
            }
    except NvmlUnavailable as problem:
        return {"driver": f"not available: {problem}", "power_limit_w": None}


def fingerprints() -> frozenset[str]:
    """Return the fingerprints of runs on the CPU, on each device, and on all of them together."""
    devices = _devices()
    choices = [(), *((device,) for device in devices), devices]
    return frozenset(fingerprint_of(read_environment(chosen)) for chosen in choices)


def _devices() -> tuple[torch.device, ...]:
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind is None:
        return ()
    return tuple(
        torch.device(kind.type, index) for index in range(torch.accelerator.device_count())
    )
