"""Cases on their way from the process that measured them to the one that reports them.

A test's report carries them as JSON texts: pytest-xdist ships a report's attributes, so a run with
workers and one without take the same path, and what was sent survives a later crash of its worker.
The environment, and which files the process imported, travel with them, so that the controller of a
run with workers needs no torch.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    import torch

    from pytest_vlmlatency.fixture import VlmLatency

ATTRIBUTE = "vlm_latency"
USAGE_PROBLEM = "vlm_latency_usage_problem"
"""The key of `workeroutput` under which a worker says why no test can run."""


class Parcel(TypedDict):
    """What a report carries: the test, and its cases once they are measured, each as JSON.

    A text takes a tenth of what the same values take as dicts, and thousands wait for the end.
    """

    test: str
    cases: Sequence[str]
    environment: str
    waited_ms: float
    imported: NotRequired[Sequence[str]]


def attach(report: pytest.TestReport, fixture: VlmLatency) -> None:
    """Put the cases of a test on a report of it, once; the setup's report announces the test."""
    unsent = fixture.take_unsent()
    measurement = fixture.measurement
    if unsent or report.when == "setup":
        parcel = Parcel(
            test=measurement.identity.test or report.nodeid,
            cases=[packed(case) for case in unsent],
            environment=_environment(measurement.devices) if unsent else "",
            waited_ms=measurement.waited_ms,
        )
        if unsent:
            parcel["imported"] = _imported()
        setattr(report, ATTRIBUTE, parcel)


def parcel_on(report: pytest.TestReport) -> Parcel | None:
    """Return what a report carries, None if it is no report of a test that measures."""
    return getattr(report, ATTRIBUTE, None)


def packed(record: object) -> str:
    """Return a record as a report carries it."""
    from pytest_vlmlatency.plain import to_json  # noqa: PLC0415 - only where something was measured

    return to_json(record, indent=None)


def _imported() -> Sequence[str]:
    """Return the files that this process imported, but those of installed packages."""
    from pytest_vlmlatency.paired.imports import own_files  # noqa: PLC0415 - as above

    return own_files()


@cache
def _environment(devices: tuple[torch.device, ...]) -> str:
    from pytest_vlmlatency.measure.environment import read_environment  # noqa: PLC0415 - as above

    return packed(read_environment(devices))
