"""Where a model's tensors are, and the clock that follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import NoAccelerator
from pytest_vlmlatency.measure.clock import Clock, DeviceClock, Event, HostClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def model_devices(model: torch.nn.Module) -> tuple[torch.device, ...]:
    """Return every device that holds a parameter or buffer, or computes, in a fixed order.

    Tensors on the meta device (offloaded weights) have no place yet and do not count: where they
    compute is said by the hooks that fetch them.
    """
    tensors = [*model.parameters(), *model.buffers()]
    devices = {tensor.device for tensor in tensors if tensor.device.type != "meta"}
    if any(tensor.device.type == "meta" for tensor in tensors):
        devices |= set(_execution_devices(model))
    return tuple(sorted(devices, key=str)) or (torch.device("cpu"),)


def _execution_devices(model: torch.nn.Module) -> Iterator[torch.device]:
    """Yield where accelerate's hooks let each module of a model compute."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in (hook, *getattr(hook, "hooks", ())):
            device = getattr(one, "execution_device", None)
            if isinstance(device, int):
                accelerator = torch.accelerator.current_accelerator()
                yield torch.device(accelerator.type if accelerator else "cpu", device)
            elif device is not None:
                yield torch.device(device)


def check_devices(devices: Sequence[torch.device], wanted: str | None) -> None:
    """Raise NoAccelerator if the model is not on the device that the measurement was asked for.

    A kind without an index ("cuda") is met by any number of devices of that kind. Tensors on the
    CPU beside an accelerator's (offloaded weights, small buffers) are allowed.
    """
    if wanted is None:
        return
    expected = torch.device(wanted)
    accelerators = [device for device in devices if device.type != "cpu"]
    misplaced = [
        device
        for device in accelerators
        if device.type != expected.type or (":" in wanted and device.index != expected.index)
    ]
    if misplaced or bool(accelerators) != (expected.type != "cpu"):
        raise NoAccelerator(
            f"the measurement was asked for on {wanted}, but the model is on "
            f"{', '.join(map(str, devices))}; expected all of it on {wanted}: move it there with "
            f"model.to({wanted!r}), or measure without --gpu and --vlm-device"
        )


def clock_for(devices: Sequence[torch.device]) -> Clock:
    """Return a host clock for a model on the CPU, else a clock over all its accelerators."""
    accelerators = [device for device in devices if device.type != "cpu"]
    if not accelerators:
        return HostClock()
    names = ", ".join(_describe(device) for device in accelerators)
    return DeviceClock([TorchLine(device) for device in accelerators], device=names)


class TorchLine:
    """One accelerator through torch's device-agnostic API."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def synchronize(self) -> None:
        """Wait for this device; torch.cuda.synchronize() alone would wait for the current one."""
        torch.accelerator.synchronize(self._device)

    def mark(self) -> Event | None:
        """Return a timed event recorded on the device's current stream; None on MPS.

        There, reading the time between two events was reported to hang after a synchronisation.
        """
        if self._device.type == "mps":
            return None
        event = torch.Event(device=self._device, enable_timing=True)
        event.record(torch.accelerator.current_stream(self._device))
        return event  # type: ignore[return-value]  # torch names the argument


def _describe(device: torch.device) -> str:
    backend = getattr(torch, device.type, None)
    name = getattr(backend, "get_device_name", None)
    return f"{device} ({name(device)})" if callable(name) else str(device)
