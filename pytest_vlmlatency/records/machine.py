"""Which machine a run was measured on: the named rules of what must match, and their digest.

The hardware's models, cores, the driver's major version, power limits and threads must match. Of
accelerators the models count, and not how many took part in a run: with four workers on four alike
it is comparable with one on one. How many a case ran on is a part of its work. What
differs from moment to moment (clocks, temperatures, a kernel's patch level) does not count, and a
version of torch or transformers is no part of a machine: such a bump is what people want judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pytest_vlmlatency.records.case import Scalar
from pytest_vlmlatency.records.run import Environment

N_DIGITS = 12


def machine_facts(environment: Environment) -> Mapping[str, Scalar]:
    """Return what must be the same for two runs to be comparable, by the name of its rule."""
    devices = environment.devices
    return {
        "processor": environment.machine.get("cpu"),
        "architecture": environment.machine.get("architecture"),
        "cores": environment.machine.get("n_cores"),
        "allowed cores": environment.settings.get("n_allowed_cores"),
        "threads": environment.settings.get("n_threads"),
        "devices": _joined(sorted({str(device.get("name")) for device in devices})),
        "driver's major version": _joined(sorted({_major(device) for device in devices})),
        "power limit (W)": _joined(
            sorted({str(device.get("power_limit_w")) for device in devices})
        ),
    }


def fingerprint_of(environment: Environment) -> str:
    """Return the machine's fingerprint: 12 hexadecimal digits over its facts."""
    facts = json.dumps(dict(machine_facts(environment)), sort_keys=True, allow_nan=False)
    return hashlib.sha256(facts.encode()).hexdigest()[:N_DIGITS]


def machine_differences(one: Environment, other: Environment) -> tuple[str, ...]:
    """Return in words what differs between two machines, "threads: 1, then 4"; () if nothing."""
    before, after = machine_facts(one), machine_facts(other)
    return tuple(
        f"{rule}: {before[rule]}, then {after[rule]}"
        for rule in before
        if before[rule] != after[rule]
    )


def _major(device: Mapping[str, Scalar]) -> str:
    return str(device.get("driver")).partition(".")[0]


def _joined(values: list[str]) -> str:
    return ", ".join(values) or "none"


def with_devices_of_all(environments: Sequence[Environment]) -> Environment:
    """Return the first environment with the devices of all, each once: they differ in no more."""
    devices = [device for environment in environments for device in environment.devices]
    distinct = [device for index, device in enumerate(devices) if device not in devices[:index]]
    return replace(environments[0], devices=tuple(distinct))
