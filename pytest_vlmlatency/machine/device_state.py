"""What the driver says of each device before and after a case.

Clocks, heat, power, throttling, and how many others have a context there. Read outside every timed
part. Decides nothing: a throttled case is marked, not refused.

Other processes on a device: how many of those that the driver lists are not of this run.

The driver lists every process with a context there. Of this run are this process, those that it
was started by (a gate that measures again still has a context of its own, idle), and the workers
beside it, which measure in turns. In a container the driver may number processes as the host does,
or hide those outside: what cannot be counted is None, and a count is never too high.

NVIDIA's driver, through nvidia-ml-py where it is installed.

Owns opening it, finding the device that torch means, and asking one question at a time. What the
driver cannot or will not say is None; that there is no driver to ask is `NvmlUnavailable`, which
never reaches a user: the environment records its reason.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.records import DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType


# NVML's own numbers (nvml.h); the functions below take them as plain integers.
SM_CLOCK = 1
MEMORY_CLOCK = 2
GPU_TEMPERATURE = 0

# Bits of nvmlClocksEventReasons. An idle device is not throttled, and clocks that someone set are
# the clocks that were asked for: those bits are no reasons.
IDLE = 0x1
CHOSEN_CLOCKS = 0x2
CHOSEN_DISPLAY_CLOCK = 0x100
REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability",
}
REASON_QUESTIONS = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",  # its name until driver 535
)

UNKNOWN_STATE = DeviceState(
    sm_clock_mhz=None, memory_clock_mhz=None, temperature_c=None, power_w=None, throttle_reasons=()
)


def read_device_states(devices: Sequence[torch.device]) -> tuple[DeviceState, ...]:
    """Return a state for each CUDA device in `devices`; () without any, or without a driver to ask.

    A device that the driver does not know has a state that knows nothing.
    """
    gpus = [device for device in devices if device.type == "cuda"]
    if not gpus:
        return ()
    try:
        with open_driver() as driver:
            return tuple(_read_state(driver, driver.find(gpu)) for gpu in gpus)
    except NvmlUnavailable:
        return ()


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Return in words why a driver slows a device down; a bit without a name keeps its number."""
    remaining = bits & ~(IDLE | CHOSEN_CLOCKS | CHOSEN_DISPLAY_CLOCK)
    single = [1 << place for place in range(remaining.bit_length()) if remaining >> place & 1]
    return tuple(REASONS.get(bit, f"reason {bit:#x}") for bit in single)


def _read_state(driver: Driver, handle: object | None) -> DeviceState:
    if handle is None:
        return UNKNOWN_STATE
    bits = next(
        (bits for name in REASON_QUESTIONS if (bits := driver.number(name, handle)) is not None), 0
    )
    return DeviceState(
        sm_clock_mhz=driver.number("nvmlDeviceGetClockInfo", handle, SM_CLOCK),
        memory_clock_mhz=driver.number("nvmlDeviceGetClockInfo", handle, MEMORY_CLOCK),
        temperature_c=driver.number("nvmlDeviceGetTemperature", handle, GPU_TEMPERATURE),
        power_w=driver.watts("nvmlDeviceGetPowerUsage", handle),
        throttle_reasons=throttle_reasons(bits),
        n_other_processes=n_others(driver.process_ids(handle)),
    )


PROC = Path("/proc")
WORKER = "PYTEST_XDIST_WORKER"
PARENT_FIELD = 1  # of /proc/PID/stat behind the name in parentheses: state, parent, ...
GPU_FILES = ("/dev/nvidia", "/dev/dxg")
"""A process with a context has one of these open; the second is that of Windows' Linux."""


def n_others(listed: Iterable[int] | None) -> int | None:
    """Return at least how many of the listed processes are of others; None where nobody can tell.

    Where this process, which has a context, is not listed, the numbers are those of another
    namespace: then as many of the listed are of this run as may have a context.
    """
    if listed is None:
        return None
    pids, run = set(listed), _own_run()
    if os.getpid() in pids:
        return len(pids - run)
    n_least = len(pids) - sum(map(_may_have_a_context, run))
    return n_least if n_least > 0 else None


def _own_run() -> set[int]:
    own = os.getpid()
    run = {own, *_ancestors(own)}
    if WORKER in os.environ:
        controller = _parent_of(own)
        run |= {pid for pid in _processes() if _parent_of(pid) == controller}
    return run


def _ancestors(pid: int) -> Iterator[int]:
    parent = _parent_of(pid)
    while parent:  # 0 is outside of what can be seen here
        yield parent
        parent = _parent_of(parent)


def _parent_of(pid: int) -> int | None:
    """Return a process's parent, None where the system does not tell."""
    try:
        status = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[PARENT_FIELD])


def _processes() -> Iterator[int]:
    try:
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    except OSError:  # no such folder on this system
        return


def _may_have_a_context(pid: int) -> bool:
    """Whether a process has a GPU's file open, or belongs to somebody whose files are hidden."""
    if pid == os.getpid():
        return True
    try:
        opened = [str(entry.readlink()) for entry in (PROC / str(pid) / "fd").iterdir()]
    except OSError:  # hidden, or something was closed meanwhile: it may
        return True
    return any(name.startswith(GPU_FILES) for name in opened)


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
