"""Which device a measurement is on: what `--gpu` and `--vlm-device` find, and what to call it.

Imports torch, so it is loaded when a test that measures was collected and a device was asked for,
or when that test runs.
"""

from __future__ import annotations

import torch

from pytest_vlmlatency.errors import NoAccelerator, UsageProblem
from pytest_vlmlatency.models.accelerator import visible_accelerator


def resolve_device(named: str | None, *, is_gpu_asked: bool) -> str | None:
    """Return the device that `--vlm-device` and `--gpu` mean together; None leaves it open."""
    if named is not None:
        _check_device(named, is_gpu_asked=is_gpu_asked)
        return named
    return _current_accelerator() if is_gpu_asked else None


def _current_accelerator() -> str:
    accelerator = visible_accelerator()
    if accelerator is None:
        raise NoAccelerator(
            f"--gpu: torch {torch.__version__} sees no accelerator ({_what_torch_saw()}); install "
            f"a torch built for yours, make its driver visible to this process, or leave --gpu out"
        )
    return accelerator.type


def _check_device(named: str, *, is_gpu_asked: bool) -> None:
    try:
        device = torch.device(named)
    except RuntimeError:
        raise UsageProblem(
            f"--vlm-device {named}: torch knows no such kind of device; "
            f"expected cpu, cuda, xpu or mps, and an index where there are several (cuda:1)"
        ) from None
    if device.type == "cpu":
        if is_gpu_asked:
            raise UsageProblem(f"--gpu and --vlm-device {named} contradict each other; give one")
        return
    accelerator = visible_accelerator()
    if accelerator is None or accelerator.type != device.type:
        raise NoAccelerator(
            f"--vlm-device {named}: torch {torch.__version__} has no usable {device.type} "
            f"({_what_torch_saw()})"
        )
    n_devices = torch.accelerator.device_count()
    if ":" in named and device.index >= n_devices:
        raise NoAccelerator(
            f"--vlm-device {named}: torch sees {n_devices} {device.type} device(s), "
            f"numbered from 0 on"
        )


def _what_torch_saw() -> str:
    built_for = [
        name
        for name, is_built in (
            ("CUDA", torch.version.cuda is not None),
            ("ROCm", torch.version.hip is not None),
            ("XPU", torch.version.xpu is not None),
            ("MPS", torch.backends.mps.is_built()),
        )
        if is_built
    ]
    seen = visible_accelerator()
    return (
        f"built for {', '.join(built_for) or 'the CPU only'}; "
        f"visible: {'none' if seen is None else f'{torch.accelerator.device_count()} {seen.type}'}"
    )
