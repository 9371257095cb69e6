"""What the driver says of each device before and after a case.

Clocks, heat, power, throttling, and how many others have a context there. Read outside every timed
part. Decides nothing: a throttled case is marked, not refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.neighbours import n_others
from pytest_vlmlatency.measure.nvml import Driver, NvmlUnavailable, open_driver
from pytest_vlmlatency.records import DeviceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

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
