"""The same random numbers in every round, and no garbage collection inside one."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

Restore = Callable[[], None]


def remember_random_state(devices: Sequence[torch.device]) -> Restore:
    """Return a function that puts Python's, numpy's and torch's random state back as it is now."""
    python_state = random.getstate()
    cpu_state = torch.get_rng_state()
    restore_devices = [_remember_device(device) for device in devices if device.type != "cpu"]
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None

    def restore() -> None:
        random.setstate(python_state)
        torch.set_rng_state(cpu_state)
        for restore_device in restore_devices:
            restore_device()
        if numpy and numpy_state:
            numpy.random.set_state(numpy_state)

    return restore


def _remember_device(device: torch.device) -> Restore:
    backend = torch.get_device_module(device)
    which = () if device.type == "mps" else (device,)  # MPS has one device and takes no argument
    state = backend.get_rng_state(*which)
    return lambda: backend.set_rng_state(state, *which)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect young garbage now, and none until the block ends."""
    was_enabled = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
