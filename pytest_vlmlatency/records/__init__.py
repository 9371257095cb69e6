"""The nouns: a Span of a Call, the Calls of a Case, the Cases of a Run, the verdicts on them.

Raw observations are stored; whatever can be computed from them is a property. Nothing here reads
a clock, a model or a file. `plain` turns these records into JSON and back.

All times are milliseconds. Every span holds the same measures as its call: `wall_ms` always,
`cpu_ms` (CPU time of the process) where the host computes, `device_ms` where an accelerator does.
A further measure (energy, FLOPs) is one more key, and a further phase one more span.
"""

from pytest_vlmlatency.records.call import (
    CONTENDED_ABOVE,
    CPU,
    DEVICE,
    VISION_OUTSIDE,
    WALL,
    Call,
    Phase,
    Place,
    Span,
)
from pytest_vlmlatency.records.case import (
    BOUNDABLE,
    Case,
    DeviceState,
    Discovery,
    PhaseMap,
    Scalar,
    Workload,
)
from pytest_vlmlatency.records.gate_report import (
    BudgetVerdict,
    CaseState,
    CaseVerdict,
    Confirmation,
    GateReport,
    GateStatus,
    PhaseVerdict,
)
from pytest_vlmlatency.records.gate_terms import (
    ANY_DEVICE,
    ANY_PHASE,
    MOST_EFFECT_SHARE,
    TARGET_RATIO,
    GateMode,
    GateTerms,
)
from pytest_vlmlatency.records.judgement import Judgement, Verdict
from pytest_vlmlatency.records.machine import (
    fingerprint_of,
    machine_differences,
    machine_facts,
    with_devices_of_all,
)
from pytest_vlmlatency.records.prediction import Prediction, Standing
from pytest_vlmlatency.records.rounds import (
    TOTAL,
    Rounds,
    RunHeader,
    RunRounds,
    rounds_of,
    run_rounds_of,
)
from pytest_vlmlatency.records.run import (
    CASES,
    DIGEST,
    N_DIGEST_DIGITS,
    SCHEMA_VERSION,
    Commit,
    Environment,
    Run,
    RunDigest,
    digest_of_run,
)
from pytest_vlmlatency.records.trend import Trend, TrendPoint, TrendSeries, TrendStep

__all__ = [
    "ANY_DEVICE",
    "ANY_PHASE",
    "BOUNDABLE",
    "CASES",
    "CONTENDED_ABOVE",
    "CPU",
    "DEVICE",
    "DIGEST",
    "MOST_EFFECT_SHARE",
    "N_DIGEST_DIGITS",
    "SCHEMA_VERSION",
    "TARGET_RATIO",
    "TOTAL",
    "VISION_OUTSIDE",
    "WALL",
    "BudgetVerdict",
    "Call",
    "Case",
    "CaseState",
    "CaseVerdict",
    "Commit",
    "Confirmation",
    "DeviceState",
    "Discovery",
    "Environment",
    "GateMode",
    "GateReport",
    "GateStatus",
    "GateTerms",
    "Judgement",
    "Phase",
    "PhaseMap",
    "PhaseVerdict",
    "Place",
    "Prediction",
    "Rounds",
    "Run",
    "RunDigest",
    "RunHeader",
    "RunRounds",
    "Scalar",
    "Span",
    "Standing",
    "Trend",
    "TrendPoint",
    "TrendSeries",
    "TrendStep",
    "Verdict",
    "Workload",
    "digest_of_run",
    "fingerprint_of",
    "machine_differences",
    "machine_facts",
    "rounds_of",
    "run_rounds_of",
    "with_devices_of_all",
]
