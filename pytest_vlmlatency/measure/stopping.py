"""When to stop measuring. Pure, and kept apart from how to measure (after nvbench's criteria).

Stop after `MIN_ROUNDS` rounds once the relative noise of the median is under its target or has
stopped falling; at the time limit with at least `MIN_ROUNDS_IN_TIME`; at `MAX_ROUNDS` always.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_ROUNDS = 10
MIN_ROUNDS_IN_TIME = 3
"""A run with fewer rounds has no spread worth the name."""
MAX_ROUNDS = 100
LOOK_BACK = 5
"""Rounds over which the noise must have fallen."""
MIN_FALL_RATIO = 0.98
"""Noise falls as 1/sqrt(n): from n=95 to n=100 by 2.5 %. Less than 2 %, twice, is no fall."""
MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for normal noise: 1 / Phi^-1(3/4)."""
MEDIAN_TO_MEAN = math.sqrt(math.pi / 2)
"""Standard error of a median to that of a mean, for normal noise and many rounds."""
TARGET_NOISE_RATIO = {"cpu": 0.01, "device": 0.005}
"""Relative standard error of the median; calls of one CPU thread vary by 3.4 %, a GPU's by less."""


def stop_reason(
    times_ms: Sequence[float], *, elapsed_s: float, max_time_s: float, is_cpu: bool
) -> str | None:
    """Return why to stop after these rounds, None to go on."""
    n_rounds = len(times_ms)
    if n_rounds >= MAX_ROUNDS:
        return f"{MAX_ROUNDS} rounds"
    if n_rounds >= MIN_ROUNDS_IN_TIME and elapsed_s >= max_time_s:
        return f"time limit of {max_time_s:g} s"
    if n_rounds < MIN_ROUNDS:
        return None
    target = TARGET_NOISE_RATIO["cpu" if is_cpu else "device"]
    noise = noise_ratio(times_ms)
    if noise <= target:
        return f"noise of the median under {target:.1%}"
    looks = [noise_ratio(times_ms[: n_rounds - back]) for back in (0, LOOK_BACK, 2 * LOOK_BACK)]
    has_looked = n_rounds >= MIN_ROUNDS + 2 * LOOK_BACK
    if has_looked and all(now > before * MIN_FALL_RATIO for now, before in pairwise(looks)):
        return "noise stopped falling"
    return None


def noise_ratio(times_ms: Sequence[float]) -> float:
    """Return the standard error of the median relative to it, 0 for constant times.

    By the median absolute deviation, which an outlier does not move; the factors make both hold
    for normal noise.
    """
    if len(times_ms) < 2:
        return math.inf
    middle = median(times_ms)
    deviation = MAD_TO_SIGMA * median(abs(time_ms - middle) for time_ms in times_ms)
    return MEDIAN_TO_MEAN * deviation / math.sqrt(len(times_ms)) / middle if middle else 0.0
