"""NVML as nvidia-ml-py presents it, without a driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

SM_CLOCK, MEMORY_CLOCK, GPU_TEMPERATURE = 1, 2, 0


class FakeNvmlError(Exception):
    pass


@dataclass
class FakeGpu:
    uuid: str
    sm_clock_mhz: int = 1980
    memory_clock_mhz: int = 2619
    temperature_c: int = 41
    power_mw: int = 250_500
    power_limit_mw: int = 700_000
    reasons: int = 0
    refuses: Sequence[str] = ()
    pids: Sequence[int] = ()
    prefix: str = "GPU"


@dataclass
class FakeNvml:
    """Put it into `sys.modules["pynvml"]`."""

    gpus: Sequence[FakeGpu] = ()
    init_problem: str | None = None
    lacks: Sequence[str] = ()
    driver: str | bytes = "580.65.06"
    n_open: int = 0
    NVMLError: type[Exception] = field(default=FakeNvmlError)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name
        if self.init_problem is not None:
            raise FakeNvmlError(self.init_problem)
        self.n_open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802 - NVML's name
        self.n_open -= 1

    def __getattr__(self, question: str) -> Callable[..., object]:
        if question in object.__getattribute__(self, "lacks") or question not in ANSWERS:
            raise AttributeError(question)
        return lambda *arguments: self._answer(question, *arguments)

    def _answer(self, question: str, *arguments: object) -> object:
        assert self.n_open == 1, f"{question} was asked of a driver that is not open"
        gpu = arguments[0] if arguments else None
        if isinstance(gpu, FakeGpu) and question in gpu.refuses:
            raise FakeNvmlError("Not Supported")
        return ANSWERS[question](self, *arguments)


def _by_uuid(nvml: FakeNvml, uuid: str) -> FakeGpu:
    known = {f"{gpu.prefix}-{gpu.uuid}": gpu for gpu in nvml.gpus}
    if uuid not in known:
        raise FakeNvmlError("Not Found")
    return known[uuid]


def _clock(_nvml: FakeNvml, gpu: FakeGpu, kind: int) -> int:
    return {SM_CLOCK: gpu.sm_clock_mhz, MEMORY_CLOCK: gpu.memory_clock_mhz}[kind]


def _temperature(_nvml: FakeNvml, gpu: FakeGpu, kind: int) -> int:
    return {GPU_TEMPERATURE: gpu.temperature_c}[kind]


ANSWERS: dict[str, Callable[..., object]] = {
    "nvmlDeviceGetHandleByUUID": _by_uuid,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetTemperature": _temperature,
    "nvmlDeviceGetPowerUsage": lambda _nvml, gpu: gpu.power_mw,
    "nvmlDeviceGetEnforcedPowerLimit": lambda _nvml, gpu: gpu.power_limit_mw,
    "nvmlDeviceGetCurrentClocksEventReasons": lambda _nvml, gpu: gpu.reasons,
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _nvml, gpu: gpu.reasons,
    "nvmlDeviceGetComputeRunningProcesses": lambda _nvml, gpu: [
        SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in gpu.pids
    ],
    "nvmlSystemGetDriverVersion": lambda nvml: nvml.driver,
}


def visible_to_torch(*uuids: str | None) -> Callable[[torch.device], SimpleNamespace]:
    """Stand in for torch.cuda.get_device_properties: CUDA's devices 0, 1, ... have these UUIDs."""

    def get_device_properties(device: torch.device) -> SimpleNamespace:
        named = {} if uuids[device.index] is None else {"uuid": uuids[device.index]}
        return SimpleNamespace(
            name="NVIDIA H200", total_memory=150_000_000_000, major=9, minor=0, **named
        )

    return get_device_properties
