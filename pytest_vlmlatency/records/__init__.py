"""The nouns: a Span of a Call, the Calls of a Case, the Cases of a Run.

Raw observations are stored; whatever can be computed from them is a property. Nothing here reads
a clock, a model or a file. `plain` turns these records into JSON and back.

All times are milliseconds. Every span holds the same measures as its call: `wall_ms` always,
`cpu_ms` (CPU time of the process) where the host computes, `device_ms` where an accelerator does.
A further measure (energy, FLOPs) is one more key, and a further phase one more span.
"""

from pytest_vlmlatency.records.call import CPU, DEVICE, WALL, Call, Phase, Place, Span
from pytest_vlmlatency.records.case import (
    BOUNDABLE,
    Case,
    DeviceState,
    Discovery,
    PhaseMap,
    Scalar,
    Workload,
)
from pytest_vlmlatency.records.run import SCHEMA_VERSION, Commit, Environment, Run

__all__ = [
    "BOUNDABLE",
    "CPU",
    "DEVICE",
    "SCHEMA_VERSION",
    "WALL",
    "Call",
    "Case",
    "Commit",
    "DeviceState",
    "Discovery",
    "Environment",
    "Phase",
    "PhaseMap",
    "Place",
    "Run",
    "Scalar",
    "Span",
    "Workload",
]
