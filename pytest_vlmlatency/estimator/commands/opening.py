"""An estimator's file as a command opens it: where it was measured, and whether records are alike.

Owns what is said of both. Which machine this is, the command line reads: it knows the engine.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.commands.sources import warnings_told
from pytest_vlmlatency.printing import warn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
    from pytest_vlmlatency.estimator.columns import Table

HERE = "here"
MEASURE, WALL_MS = "measure", "wall_ms"


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Declare the option that names the machine that predictions are for."""
    parser.add_argument(
        "--machine",
        metavar=f"FINGERPRINT|{HERE}",
        type=_named,
        help="warn if it was measured on another machine than this (the first digits do); "
        f"{HERE} reads this machine's fingerprint, for which torch is imported",
    )


def opened(path: Path) -> CalibratedEstimator[Any]:
    """Return the estimator of a file."""
    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator  # noqa: PLC0415
    from pytest_vlmlatency.estimator.files import load_estimator  # noqa: PLC0415 - light --help

    estimator = load_estimator(path)
    assert isinstance(estimator, CalibratedEstimator), "every kind is one"
    return estimator


def opened_for(given: argparse.Namespace) -> CalibratedEstimator[Any]:
    """Return the estimator that was named; another machine than --machine is said."""
    estimator = opened(given.model)
    if given.machine is None:
        return estimator
    theirs = estimator.machine
    if theirs is None:
        warn(f"{machine_line(estimator)}: it may be another than {given.machine}")
        return estimator
    if given.machine == HERE:
        here: frozenset[str] = given.read_fingerprints()
        asked = theirs if theirs in here else " or ".join(sorted(here))
    else:
        asked = theirs if theirs.startswith(given.machine) else given.machine
    with warnings_told():
        estimator.for_machine(asked)
    return estimator


def machine_line(estimator: CalibratedEstimator[Any]) -> str:
    """Return on which machine an estimator was measured, as a line."""
    if estimator.machine is None:
        return "its records do not say on which machine they were measured"
    return f"measured on the machine {estimator.machine}"


def tell_unlike(estimator: CalibratedEstimator[Any], table: Table, path: Path) -> list[str]:
    """Return, and say, what differs between an estimator's records and those it is held against.

    Another kind of time is an EstimatorProblem: errors against it mean nothing.
    """
    known = estimator.state.conditions
    ours, theirs = table.conditions.get(MEASURE, WALL_MS), known.get(MEASURE, WALL_MS)
    if ours != theirs:
        raise EstimatorProblem(
            f"the times of the records are {ours}, and {path} was trained on {theirs}: how far one "
            f"is off the other says nothing. Name records of {theirs}, or train on {ours}"
        )
    unlike = differences(known, table.conditions)
    if unlike:
        warn(f"the records differ from those of {path}: {'; '.join(unlike)}")
    with warnings_told():
        estimator.for_machine(table.machine)
    return unlike


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError(f"expected a fingerprint, or {HERE}, not nothing")
    return text


def differences(known: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    """Return in words what was the same in all records of an estimator, and is not in others."""
    return [
        f"{name} is {seen.get(name, 'not the same in all, or unsaid')}, there {value}"
        for name, value in known.items()
        if seen.get(name) != value
    ]
