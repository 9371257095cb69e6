"""`python -m pytest_vlmlatency.estimator`: the legacy training command, with its options.

The same as `vlmlatency estimator train`.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import Parser, ended, until_closed
from pytest_vlmlatency.estimator.commands import training

if TYPE_CHECKING:
    from collections.abc import Sequence


EXAMPLES = """\
examples:
  python -m pytest_vlmlatency.estimator --results_dir results/ --use_all_datasets \\
      --output_dir estimator/
  python -m pytest_vlmlatency.estimator --results_dir results/ \\
      --dataset_names coco-caption vqa --num_epochs 50 --batch_size 256 --lr 1e-3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return 0, 1 where it was refused, 2 after a usage error."""
    parser = Parser(
        prog="python -m pytest_vlmlatency.estimator",
        description=training.DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    training.add_arguments(parser)
    return until_closed(lambda: ended(parser.prog, training.run, parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
