"""`vlmlatency estimator`: the choice among its commands. Imports nothing heavy until one runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import Command, add_commands
from pytest_vlmlatency.estimator.commands import (
    evaluating,
    plotting,
    predicting,
    searching,
    training,
)

if TYPE_CHECKING:
    import argparse

    from pytest_vlmlatency.commands import Run

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
COMMANDS: tuple[Command, ...] = (training, evaluating, predicting, searching, plotting)
CHOSEN = "run_estimator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands, each with its options."""
    add_commands(parser, COMMANDS, key=CHOSEN)


def run(given: argparse.Namespace) -> int:
    """Run the chosen command; return its exit status."""
    chosen: Run = getattr(given, CHOSEN)
    return chosen(given)
