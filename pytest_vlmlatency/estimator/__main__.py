"""`python -m pytest_vlmlatency.estimator`: the origin's training command, with its options.

The same as `vlmlatency estimator train`.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem, VlmLatencyError
from pytest_vlmlatency.estimator.commands import training

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, 1 where it was refused, 2 where it was asked in a wrong way."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_vlmlatency.estimator",
        description=training.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    training.add_arguments(parser)
    try:
        return training.run(parser.parse_args(argv))
    except VlmLatencyError as problem:
        sys.stderr.write(f"{parser.prog}: {type(problem).__name__}: {problem}\n")
        return 2 if isinstance(problem, UsageProblem) else 1


if __name__ == "__main__":
    sys.exit(main())
