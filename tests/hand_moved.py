"""The real engine on a clock that a project's code moves by hand, with noise drawn from a seed.

Each process has a seed of its own, the next number of a file (see tests.noisy_engine), and is
faster or slower as a whole by a factor of its own; each piece of work has noise on top.
"""

from __future__ import annotations

import math
import random
from contextlib import ExitStack
from functools import cache, partial

from pytest_vlmlatency.measure import run
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import Captioner
from tests.noisy_engine import next_seed

CLOCK = FakeClock()
FOR_GOOD = ExitStack()  # delays end with their process
BETWEEN, WITHIN = 0.005, 0.01
"""Standard deviations of a process's factor and of one piece of work's, in logarithms."""


class HandMovedEngine:
    """The engine, on the clock that `work` moves."""

    measure = staticmethod(partial(run.measure, clock=CLOCK))


def work(ms: float) -> None:
    """Take about so many ms."""
    draws, factor = _process()
    CLOCK.advance_ms(ms * factor * math.exp(draws.gauss(0, WITHIN)))


def captioner(*, vision_ms: float, prompt_ms: float, step_ms: float) -> Captioner:
    """Return a model whose phases take so long: its code says how long."""
    model = Captioner()
    n_forwards = 0

    def in_vision() -> None:
        nonlocal n_forwards
        n_forwards = 0
        work(vision_ms)

    def in_block() -> None:
        nonlocal n_forwards
        work(step_ms if n_forwards else prompt_ms)
        n_forwards += 1

    FOR_GOOD.enter_context(delayed(model.vision, in_vision))
    FOR_GOOD.enter_context(delayed(model.blocks[0], in_block))
    return model


@cache
def _process() -> tuple[random.Random, float]:
    draws = random.Random(next_seed())
    return draws, math.exp(draws.gauss(0, BETWEEN))
