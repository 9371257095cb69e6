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
    device_states = [
        (device, getattr(torch, device.type).get_rng_state(device))
        for device in devices
        if hasattr(getattr(torch, device.type, None), "get_rng_state")
    ]
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None

    def restore() -> None:
        random.setstate(python_state)
        torch.set_rng_state(cpu_state)
        for device, state in device_states:
            getattr(torch, device.type).set_rng_state(state, device)
        if numpy and numpy_state:
            numpy.random.set_state(numpy_state)

    return restore


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
