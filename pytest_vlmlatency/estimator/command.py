"""`vlmlatency estimator`: the choice among its commands. Imports nothing heavy until one runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_vlmlatency.estimator.commands import (
    evaluating,
    plotting,
    predicting,
    searching,
    training,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "estimator"
SUMMARY = "train, evaluate and ask an estimator of latency"
DESCRIPTION = """\
Predict latency from records that were exported or profiled, without running
the model: for budgets, for a search of configurations, for training.
"""
EXAMPLES = """\
examples:
  vlmlatency estimator train --results_dir records/ --output_dir estimator/
  vlmlatency estimator evaluate --results_dir records/ \\
      --max-mape prefill=5 decode=10
  vlmlatency estimator predict estimator/estimator.json vision_tokens=288 \\
      text_tokens=30 tier=low top_k=8 num_active_blocks=12
"""
COMMANDS = (training, evaluating, predicting, searching, plotting)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands, each with its options."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        described = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(described)
        described.set_defaults(run_estimator=command.run)


def run(given: argparse.Namespace) -> int:
    """Run the chosen command; return its exit status."""
    chosen: Callable[[argparse.Namespace], int] = given.run_estimator
    return chosen(given)
