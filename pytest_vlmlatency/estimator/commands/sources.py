"""Which records a command means: a folder of results with its data sets, files, or several.

What is left out is said on standard error, with the reason. Imports nothing heavy until it reads.
"""

from __future__ import annotations

import sys
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import EstimatorProblem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_vlmlatency.estimator.columns import Table


def read_table(paths: Sequence[Path]) -> Table:
    """Return the records of paths as a table, and say what was left out of them."""
    from pytest_vlmlatency.estimator.columns import table_of  # noqa: PLC0415 - light --help

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = table_of(list(paths))
    for warning in caught:
        sys.stderr.write(f"{warning.message}\n")
    return table


def data_sets(results: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Return the data sets of a folder of results, by name: the named ones, or all there are.

    A folder without sub-folders, or a file, is one data set.
    """
    if not results.exists():
        raise EstimatorProblem(
            f"there is no {results}; expected a folder with a sub-folder for each data set, as "
            f"`vlmlatency export` and `profile` write it"
        )
    found = {path.name: path for path in _folders(results)} or {results.name: results}
    for name in names:
        if name not in found:
            near = get_close_matches(name, found, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise EstimatorProblem(
                f"{results} has no data set {name!r}; {hint}It has {', '.join(found)}"
            )
    return {name: found[name] for name in names} if names else found


def _folders(results: Path) -> list[Path]:
    if not results.is_dir():
        return []
    return sorted(
        path
        for path in results.iterdir()
        if path.is_dir() and not path.name.startswith(".") and any(path.rglob("*.json*"))
    )
