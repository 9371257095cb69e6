"""What the estimator commands read: records of a folder or of files, and an estimator's file.

Both report on standard error what was left out, and where an estimator and records differ. Imports
nothing heavy until it reads. `cli` reads which machine this is: this room doesn't know the engine.
"""

from __future__ import annotations

import argparse
import warnings
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.printing import warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.inputs import Knob


DataSets = dict[str, tuple["Path", ...]]
"""The files and folders of each data set, by its name."""


def read_table(sets: Mapping[str, Sequence[Path]], *, knobs: Sequence[Knob] = ()) -> Table:
    """Return the records of data sets as a table, and say what was left out of them."""
    from pytest_vlmlatency.estimator.columns import table_of  # noqa: PLC0415 - light --help

    with warnings_told():
        return table_of([path for paths in sets.values() for path in paths], knobs=knobs)


@contextmanager
def warnings_told() -> Iterator[None]:
    """Write what is warned of meanwhile to standard error, without a place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                warn(*str(warning.message).splitlines())


def data_sets(results: Path, names: Sequence[str] = ()) -> DataSets:
    """Return the data sets of a folder of results, by name: the named ones, or all there are.

    A sub-folder with record files is one, whatever their form, as `read_records` finds them. Files
    beside the sub-folders are one more, which has the name of the folder of results; so is a
    folder without sub-folders, and a file.
    """
    found = _found(results)
    for name in names:
        if name not in found:
            near = get_close_matches(name, found, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise EstimatorProblem(
                f"{results} has no data set {name!r}; {hint}It has {', '.join(found)}"
            )
    return {name: found[name] for name in names} if names else found


def _found(results: Path) -> DataSets:
    from pytest_vlmlatency.export.files import mode_of, record_files  # noqa: PLC0415 - light --help

    if mode_of(results) is None:
        raise EstimatorProblem(
            f"there is no {results}; expected a folder with a sub-folder for each data set, as "
            f"`vlmlatency export` and `profile` write it"
        )
    own_name = results.resolve().name if results.name in ("", "..") else results.name
    found: DataSets = {}
    for file, _dataset in record_files(results):
        if file == results or file.parent == results:
            found[own_name] = (*found.get(own_name, ()), file)
        else:
            folder = results / file.relative_to(results).parts[0]
            known = found.get(folder.name, ())
            found[folder.name] = known if folder in known else (*known, folder)
    return found


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
