"""Which versions of torch and transformers this release was tested with, and what is beyond them.

`make test-oldest` runs the tests with one end of the range, `make test-newest` with what PyPI has
now. Owns the range and the sentence about what lies outside of it: a run then warns, and goes on.
Imports neither package.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__version__ = "0.1.0"

TESTED = {"torch": ((2, 6), (2, 14)), "transformers": ((4, 57), (5, 24))}
"""By package: the oldest and the newest minor version that the tests ran with."""

_MINOR = re.compile(r"(\d+)\.(\d+)")


def untested_lines(versions: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning for each package whose version lies outside of the tested range.

    A version that is no number (a build of one's own) was not tested either.
    """
    return tuple(
        f"Not tested with {package} {versions[package]} (tested: {range_in_words(package)}). Check "
        f"the phases with `vlmlatency inspect`, or install a tested version."
        for package in TESTED
        if package in versions and not _is_tested(package, versions[package])
    )


def range_in_words(package: str) -> str:
    """Return a package's tested versions in words, "2.6 to 2.14"."""
    return " to ".join(f"{major}.{minor}" for major, minor in TESTED[package])


def installed_versions() -> dict[str, str]:
    """Return the installed version of each package with a tested range, without importing any."""
    found = {}
    for package in TESTED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # it lies on the path without metadata
            continue
    return found


def _is_tested(package: str, found: str) -> bool:
    oldest, newest = TESTED[package]
    numbers = _MINOR.match(found)
    return numbers is not None and oldest <= (int(numbers[1]), int(numbers[2])) <= newest
