"""An engine whose times are noise from a seed around what the project's code says that it takes.

generate() returns by which shares its phases are slower: {"vision_ms": 0.05}. Each process draws
another seed, the next number of a file, so that a test's processes come out the same every time.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tests.fake_engine import FakeEngine
from tests.gate.runs import N_ROUNDS, noisy_calls

if TYPE_CHECKING:
    from pytest_vlmlatency.measure.case import Identity
    from pytest_vlmlatency.options import Options
    from pytest_vlmlatency.records import Case

SEEDS = "VLM_TEST_SEEDS"
"""The variable that names the file whose length is the next seed."""


class NoisyEngine(FakeEngine):
    """Measures nothing, and makes up noisy times for what it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = next_seed()

    def _measured_case(self, output: object, options: Options, identity: Identity) -> Case:
        self.seed += 1000
        slower = cast("dict[str, float]", output)
        calls = noisy_calls(self.seed, slower=slower, n_rounds=options.rounds or N_ROUNDS)
        return replace(self._case(options, identity), calls=tuple(calls))


def next_seed() -> int:
    """Return a number that no other process of the test has had."""
    path = Path(os.environ[SEEDS])
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size
