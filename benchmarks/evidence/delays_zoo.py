"""Known delays come back in the right phase, in every model that the tests can build.

The same as `delays` with all models, and with fewer and shorter rounds for each.
"""

import sys

from benchmarks.evidence._delays import Figures, Part, Plan, delay_table, gather, tell_rounds
from benchmarks.evidence._record import Evidence, publish
from benchmarks.evidence._statistics import folded
from tests.zoo import available

NAME = "delays_zoo"
PLAN = Plan(
    delay_ms={Part.VISION: 50.0, Part.PREFILL: 50.0, Part.DECODE: 50.0},
    n_turns=5,
    tolerance_ratio=0.02,
    tolerance_ms=0.5,
    n_steps=1,
)
"""A delay has room for calls of the twin; a shorter one would be spun away, and cool caches."""


def main() -> int:
    """Measure every model and publish what came back."""
    return publish(gather(NAME, sorted(available()), PLAN), describe)


def describe(evidence: Evidence[Figures]) -> str:
    """Return a line a delay, and behind a fold a row a model."""
    figures = evidence.figures
    n_models = len(figures.models)
    return f"{n_models} models. {tell_rounds(figures, PLAN)}\n\n" + folded(
        f"What came back in each of {n_models} models", delay_table(figures, PLAN)
    )


if __name__ == "__main__":
    sys.exit(main())
