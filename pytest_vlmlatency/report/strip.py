"""A series as one line of text, so that people can look at it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HEIGHTS = "▁▂▃▄▅▆▇█"
BREAK = "│"
LEAST_RANGE_RATIO = 0.04
"""A strip spans at least 4 % of its middle, so that noise of 1 % does not look like mountains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A line of blocks, and the values at its bottom and top."""

    text: str
    bottom: float
    top: float


def strip_of(values: Sequence[float], *, breaks: Sequence[int] = (), width: int) -> Strip:
    """Return a strip of at most `width` characters, a bar before each position in `breaks`.

    Where there are more values than room, each block is the median of its neighbours; no block
    reaches over a break.
    """
    assert values, "nothing to draw"
    n_blocks = max(width - len(breaks), len(breaks) + 1)
    blocks = [_shrunk(part, _share(part, values, n_blocks)) for part in _parts(values, breaks)]
    shown = [value for block in blocks for value in block]
    bottom, top = _range(shown)
    text = BREAK.join("".join(_height(value, bottom, top) for value in block) for block in blocks)
    return Strip(text=text, bottom=bottom, top=top)


def _parts(values: Sequence[float], breaks: Sequence[int]) -> list[Sequence[float]]:
    ends = [0, *sorted(breaks), len(values)]
    parts = [values[start:end] for start, end in pairwise(ends)]
    return [part for part in parts if part]


def _share(part: Sequence[float], values: Sequence[float], n_blocks: int) -> int:
    """Return how many blocks a part may have of all."""
    if len(values) <= n_blocks:
        return len(part)
    return max(1, len(part) * n_blocks // len(values))


def _shrunk(values: Sequence[float], n_blocks: int) -> list[float]:
    edges = [len(values) * index // n_blocks for index in range(n_blocks + 1)]
    return [median(values[start:end]) for start, end in pairwise(edges)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    bottom, top = min(values), max(values)
    missing = LEAST_RANGE_RATIO * (bottom + top) / 2 - (top - bottom)
    return (bottom - missing / 2, top + missing / 2) if missing > 0 else (bottom, top)


def _height(value: float, bottom: float, top: float) -> str:
    share = (value - bottom) / (top - bottom) if top > bottom else 0.5
    return HEIGHTS[min(int(share * len(HEIGHTS)), len(HEIGHTS) - 1)]
