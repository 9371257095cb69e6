"""What confirming will still cost, in words: from the launches so far."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

S_PER_MIN = 60
SIDES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The launches of one look: how long each took so far, and how many are to come.

    Fewer tests take less time, so launches are forecast from the latest ones.
    """

    took_s: tuple[float, ...]
    n_launches_left: int

    @property
    def left_s(self) -> float | None:
        """The seconds that the rest of the look will take, None before the first launch."""
        if not self.took_s:
            return None
        return fmean(self.took_s[-2 * SIDES :]) * self.n_launches_left


def told_before(n_tests: int, n_pairs: int, forecast: Forecast) -> str:
    """Say before a look what it will cost."""
    tests = f"{n_tests} test{'' if n_tests == 1 else 's'}"
    launches = f"{forecast.n_launches_left} launches"
    left_s = forecast.left_s
    cost = "the first launch tells how long" if left_s is None else f"about {told_time(left_s)}"
    return f"Confirming {tests} with fresh pairs up to pair {n_pairs}: {launches}, {cost}."


def told_within(pair: int, n_pairs: int, forecast: Forecast) -> str:
    """Say within a look how far it is."""
    left_s = forecast.left_s
    left = "" if left_s is None else f", about {told_time(left_s)} left"
    return f"Pair {pair} of {n_pairs}{left}."


def told_time(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 2 * S_PER_MIN:
        return f"{seconds:.0f} s"
    return f"{seconds / S_PER_MIN:.0f} min"
