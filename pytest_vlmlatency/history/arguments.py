"""Options that every command about the history has, declared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_history(parser: argparse.ArgumentParser) -> None:
    """Declare where runs are kept."""
    parser.add_argument(
        "--history",
        metavar="URL",
        help="folder or URL of the runs (default: .vlm_latency here)",
    )


def add_cases(parser: argparse.ArgumentParser) -> None:
    """Declare which cases are looked at."""
    parser.add_argument(
        "--case",
        metavar="TEXT",
        action="append",
        default=[],
        help="only cases whose id has TEXT in it; may be given several times",
    )
