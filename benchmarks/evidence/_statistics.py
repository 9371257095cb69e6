"""The statistics, Markdown tables and progress line that evidence scripts share.

A median's interval is built from order statistics: no assumption about the distribution, which has
a long tail on shared hosts, and no random numbers.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

from scipy.stats import beta
from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


CONFIDENCE = 0.95
FEWEST = 6
"""Values below which the smallest and the largest enclose the median in less than 95 % of cases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A median and the interval that encloses the true one with at least 95 % confidence."""

    middle: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside, the ends included."""
        return self.low <= value <= self.high


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its interval of order statistics; at least `FEWEST` values."""
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values have no 95 % interval; expected at least {FEWEST}")
    ordered = sorted(values)
    n_cut = _n_outside(len(ordered))
    return Interval(middle=median(ordered), low=ordered[n_cut], high=ordered[-1 - n_cut])


def rate_interval(n_hits: int, n_all: int) -> tuple[float, float]:
    """Return the ends of a rate's 95 % interval after Clopper and Pearson (1934)."""
    outside = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(outside, n_hits, n_all - n_hits + 1)) if n_hits else 0.0
    high = float(beta.ppf(1 - outside, n_hits + 1, n_all - n_hits)) if n_hits < n_all else 1.0
    return low, high


def interquartile_range(values: Sequence[float]) -> float:
    """Return the width of the middle half of the values."""
    first, _, third = quantiles(values, n=4, method="inclusive")
    return third - first


def _n_outside(n: int) -> int:
    """Return how many values may be cut off at each end.

    The true median lies below the k-th smallest of n values (k from 0) with the probability that
    at most k of n fair coins show heads (David and Nagaraja, Order Statistics, 7.1).
    """
    below = 0.0
    for k in range(n):
        below += math.comb(n, k) / 2**n
        if below > (1 - CONFIDENCE) / 2:
            return k - 1
    raise AssertionError("half of the coins show heads at the latest")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return the table; the first `left` columns are set to the left, all others to the right."""
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    rule = [
        "-" * width if column < left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join(_line(row, widths, left) for row in (headers, rule, *rows))


def folded(title: str, text: str) -> str:
    """Return text that a browser shows once its title is clicked."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _line(cells: Sequence[str], widths: Sequence[int], left: int) -> str:
    aligned = [
        cell.ljust(width) if column < left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(aligned)} |"


ERASED = "\r\x1b[K"
"""Back to the start of the line, and clear it."""


def quiet_transformers() -> None:
    """Let transformers warn of nothing: which packages are missing is no progress."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it has no types


def show_progress(text: str) -> None:
    """Write over the last line of progress, if standard error is a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        sys.stderr.write(f"{ERASED}{text[: width - 1]}")
        sys.stderr.flush()


def erase_progress() -> None:
    """Leave an empty line where the progress was, if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASED)
        sys.stderr.flush()


def one_by_one(names: Sequence[str]) -> Iterator[str]:
    """Yield each name while the line says which it is, of how many."""
    for index, name in enumerate(names, start=1):
        show_progress(f"{index} of {len(names)}: {name}")
        yield name
    erase_progress()


def counted(n: int, what: str) -> Iterator[int]:
    """Yield the numbers below n while the line says how far it is with what."""
    for index in range(n):
        show_progress(f"{what}: {index + 1} of {n}")
        yield index
    erase_progress()
