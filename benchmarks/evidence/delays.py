"""Known delays come back in the right phase: busy-waits of CPU time in some models' own parts.

One part at a time is slowed down: the vision tower, the last decoder block for the prompt, the same
block for each decode step. Few models and many rounds, so that little can hide in noise;
`delays_zoo` takes all models, and fewer rounds.
"""

import sys

from benchmarks.evidence import _delays
from benchmarks.evidence._delays import Figures, Part, Plan, delay_table, gather, tell_rounds
from benchmarks.evidence._record import Claim, Evidence, publish

NAME = "delays"
MODELS = (
    "llava",
    "qwen2_vl",
    "qwen3_vl",
    "smolvlm",
    "idefics3",
    "mllama",
    "paligemma",
    "gemma3",
    "internvl",
    "blip-2",
    "molmo2",
    "florence2",
    "git",
)
PLAN = Plan(
    delay_ms={Part.VISION: 60.0, Part.PREFILL: 40.0, Part.DECODE: 20.0},
    n_turns=20,
    tolerance_ratio=0.01,
    tolerance_ms=0.3,
)


def main() -> int:
    """Measure every model and publish what came back."""
    return publish(gather(NAME, MODELS, PLAN), describe)


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the delays, and whether it held."""
    return _delays.judge(figures, PLAN)


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row a model."""
    figures = evidence.figures
    return f"{tell_rounds(figures, PLAN)}\n\n{delay_table(figures, PLAN)}"


if __name__ == "__main__":
    sys.exit(main())
