"""Cases on their way from the process that measured them to the one that reports them.

A test's report carries them as plain data: pytest-xdist ships a report's attributes, so a run with
workers and one without take the same path, and what was sent survives a later crash of its worker.
With its first cases a process also sends its environment and commit, so that the controller of a
run with workers needs no torch.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from pytest_vlmlatency.fixture import VlmLatency

ATTRIBUTE = "vlm_latency"


class Parcel(TypedDict):
    """What a report carries: the test, and its cases once they are measured."""

    test: str
    cases: Sequence[Mapping[str, object]]
    waited_ms: float


def attach(report: pytest.TestReport, fixture: VlmLatency) -> None:
    """Put the cases of a test on a report of it, once; the setup's report announces the test."""
    unsent = fixture.take_unsent()
    if unsent or report.when == "setup":
        parcel = Parcel(
            test=fixture.bench.identity.test or report.nodeid,
            cases=[_plain(case) for case in unsent],
            waited_ms=fixture.bench.waited_ms,
        )
        setattr(report, ATTRIBUTE, parcel)


def parcel_on(report: pytest.TestReport) -> Parcel | None:
    """Return what a report carries, None if it is no report of a test that measures."""
    return getattr(report, ATTRIBUTE, None)


def _plain(record: object) -> dict[str, object]:
    """Return a record as execnet can send it: exact builtin types, no subclasses of str."""
    from pytest_vlmlatency.plain import to_json  # noqa: PLC0415 - only where something was measured

    plain: dict[str, object] = json.loads(to_json(record))
    return plain
