"""NVIDIA's driver, through nvidia-ml-py where it is installed.

Owns opening it, finding the device that torch means, and asking one question at a time. What the
driver cannot or will not say is None; that there is no driver to ask is `NvmlUnavailable`, which
never reaches a user: the environment records its reason.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

UUID_KINDS = ("GPU", "MIG")  # torch leaves out the prefix that the driver wants


class NvmlUnavailable(Exception):
    """The driver cannot be asked; the message says why."""


class Driver:
    """The open driver. Each question is the name of an NVML function."""

    def __init__(self, nvml: ModuleType) -> None:
        self._nvml = nvml

    def find(self, device: torch.device) -> object | None:
        """Return the driver's handle for one of torch's devices, None if it knows no such device.

        By UUID: torch numbers only the devices that CUDA_VISIBLE_DEVICES left it, the driver all.
        """
        uuid = cuda_uuid(device)
        if uuid is None:
            return None
        handles = (self._ask("nvmlDeviceGetHandleByUUID", f"{kind}-{uuid}") for kind in UUID_KINDS)
        return next((handle for handle in handles if handle is not None), None)

    def number(self, question: str, *arguments: object) -> int | None:
        """Return the answer to a question about a number, in NVML's own unit."""
        answer = self._ask(question, *arguments)
        return answer if isinstance(answer, int) else None

    def watts(self, question: str, *arguments: object) -> float | None:
        """Return the answer to a question about power, which NVML gives in milliwatts."""
        milliwatts = self.number(question, *arguments)
        return None if milliwatts is None else milliwatts / 1000

    def text(self, question: str) -> str | None:
        """Return the answer to a question about words; old releases of nvidia-ml-py use bytes."""
        answer = self._ask(question)
        if isinstance(answer, bytes):
            return answer.decode()
        return answer if isinstance(answer, str) else None

    def process_ids(self, handle: object) -> tuple[int, ...] | None:
        """Return the processes with a compute context on a device, None if the driver won't say."""
        answer = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        if not isinstance(answer, list):
            return None
        return tuple(process.pid for process in answer)

    def _ask(self, question: str, *arguments: object) -> object | None:
        try:
            answer: object = getattr(self._nvml, question)(*arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None
        return answer


@contextmanager
def open_driver() -> Iterator[Driver]:
    """Yield the driver, and close it; raise NvmlUnavailable where there is none."""
    try:
        import pynvml  # noqa: PLC0415 - optional: the extra `gpu`
    except ImportError as problem:
        raise NvmlUnavailable("nvidia-ml-py is not installed") from problem
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as problem:
        raise NvmlUnavailable(str(problem)) from problem
    try:
        yield Driver(pynvml)
    finally:
        pynvml.nvmlShutdown()


def cuda_uuid(device: torch.device) -> str | None:
    """Return a CUDA device's UUID as torch writes it, None where torch does not know it."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)
