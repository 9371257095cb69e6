"""Which records a command means: a folder of results with its data sets, files, or several.

What is left out is said on standard error, with the reason. Imports nothing heavy until it reads.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.printing import warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

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
