"""Which fingerprints the runs of this machine may have: without, and with each of its devices.

Imports torch, which knows the devices; loaded only where nobody named a machine.
"""

from __future__ import annotations

import torch

from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.records import fingerprint_of


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
