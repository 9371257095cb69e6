"""Runs for tests of the gate: rounds with noise from a seed."""

import math
import random
from collections.abc import Sequence

Rounds = list[float]
Pair = tuple[Rounds, Rounds]
NOISE = (0.01, 0.01)
MS = 100.0


def runs(
    n_runs: int,
    *,
    change: float = 0.0,
    noise: tuple[float, float] = NOISE,
    n_rounds: int = 20,
    seed: int = 0,
) -> list[Rounds]:
    """Return runs of rounds about 100 ms, slower by `change`. `noise`: between runs, within."""
    between, within = noise
    rng = random.Random(f"{seed} {n_runs} {change} {noise}")
    return [
        [MS * (1 + change) * level * math.exp(rng.gauss(0, within)) for _ in range(n_rounds)]
        for level in [math.exp(rng.gauss(0, between)) for _ in range(n_runs)]
    ]


def pairs(
    n: int, *, change: float = 0.0, noise: tuple[float, float] = NOISE, seed: int = 0
) -> list[Pair]:
    """Return fresh pairs of seven rounds: a baseline run, and one that is slower by `change`."""
    befores = runs(n, noise=noise, n_rounds=7, seed=seed)
    afters = runs(n, change=change, noise=noise, n_rounds=7, seed=seed + 1)
    return list(zip(befores, afters, strict=True))


def scaled(all_rounds: Sequence[Rounds], factor: float) -> list[Rounds]:
    """Return the runs on a machine that takes `factor` times as long."""
    return [[factor * round_ms for round_ms in rounds] for rounds in all_rounds]


class Supply:
    """Pairs for `judge`, which remembers how many it was asked for."""

    def __init__(self, measured: Sequence[Pair]) -> None:
        self._measured = list(measured)
        self.asked: list[int] = []

    def __call__(self, k: int) -> list[Pair]:
        self.asked.append(k)
        return self._measured[:k]
