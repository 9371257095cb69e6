"""How long confirming can take, in words: before it begins, and while it runs. Pure.

Every bound is the worst case: each pair that the rules may need, or the time limit if that is less.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

S_PER_MIN = 60
SIDES = 2
N_CELLS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where confirming stands: how long each launch took so far, and what bounds the rest.

    `most_pairs` is how many pairs the rules may need, None where that is not known yet. Fewer tests
    take less time, so a pair is forecast from the latest launches.
    """

    took_s: tuple[float, ...]
    n_pairs: int
    most_pairs: int | None
    limit_s: float

    @property
    def pair_s(self) -> float | None:
        """The seconds that a pair will take, None before the first launch."""
        return fmean(self.took_s[-2 * SIDES :]) * SIDES if self.took_s else None

    @property
    def left_s(self) -> float:
        """The seconds until the time limit."""
        return self.limit_s - sum(self.took_s)

    @property
    def most_s(self) -> float:
        """The seconds that the rest will take at most, counted from the latest launch's end."""
        left_s = max(self.left_s, 0.0)
        if self.pair_s is None or self.most_pairs is None:
            return left_s
        n_launches = SIDES * self.most_pairs - len(self.took_s)
        return min(left_s, max(n_launches, 0) * self.pair_s / SIDES)


def told_before(n_tests: int, forecast: Forecast, *, limit_option: str) -> str:
    """Return what confirming will cost at most; `limit_option` sets the time limit."""
    tests = f"{n_tests} test{'' if n_tests == 1 else 's'}"
    limit = f"{told_time(forecast.limit_s)} ({limit_option})"
    most = "" if forecast.most_pairs is None else f"{forecast.most_pairs} pairs or "
    return f"Confirming {tests} with fresh pairs of processes: at most {most}{limit}."


def told_within(forecast: Forecast) -> str:
    """Return how far confirming is, as one line with a bar of the worst case."""
    most = forecast.most_pairs
    so_far_s = sum(forecast.took_s)
    share = so_far_s / (so_far_s + forecast.most_s) if so_far_s else 0.0
    bar = f"{'#' * int(N_CELLS * share):.<{N_CELLS}}"
    of_most = "" if most is None else f" of at most {most}"
    return (
        f"[{bar}] {forecast.n_pairs} fresh pair{'' if forecast.n_pairs == 1 else 's'}{of_most} in "
        f"{told_time(so_far_s)}, at most {told_time(forecast.most_s)} left"
    )


def told_time(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 2 * S_PER_MIN:
        return f"{seconds:.0f} s"
    return f"{seconds / S_PER_MIN:.0f} min"
