"""Inputs as text: `top_k=4,8`, `tier=low`, and tokens that follow the tier, `low:288,high:792`.

And knobs as they are declared: `batch_size`, `dtype:category`. Text becomes a number where an input
is one: the level of a category stays as it was typed.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.estimator.inputs import Knob

Text = list[str] | dict[str, str]
Value = list[object] | dict[str, object]
CATEGORY = "category"


def named_values(text: str) -> tuple[str, Text]:
    """Return one input's name and values: a list, or one for each tier."""
    name, separator, rest = text.partition("=")
    parts = rest.split(",")
    if not name or not separator or "" in parts:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE[,VALUE...], not {text!r}")
    if not any(":" in part for part in parts):
        return name, parts
    pairs = [part.partition(":") for part in parts]
    if not all(tier and colon and value for tier, colon, value in pairs):
        raise argparse.ArgumentTypeError(f"expected NAME=TIER:VALUE[,TIER:VALUE...], not {text!r}")
    return name, {tier: value for tier, _, value in pairs}


def inputs_of(given: Sequence[tuple[str, Text]], knobs: Sequence[Knob]) -> dict[str, Value]:
    """Return inputs by name, as an estimator with these knobs reads them; each may stand once."""
    names = [name for name, _ in given]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageProblem(f"{twice} is given twice; give all of its values at once: {twice}=A,B")
    categories = {knob.name for knob in knobs if knob.is_category}
    return {name: _value(text, is_text=name in categories) for name, text in given}


def add_knobs(parser: argparse.ArgumentParser) -> None:
    """Declare the option that declares knobs."""
    parser.add_argument(
        "--knob",
        metavar=f"NAME[:{CATEGORY}]",
        dest="knobs",
        action="append",
        type=_declared,
        default=[],
        help="a further input, a field of the records or of their configuration: an amount, of "
        f"which more never takes less time, or a {CATEGORY}; may be given several times",
    )


def knobs_of(declared: Sequence[tuple[str, bool]]) -> tuple[Knob, ...]:
    """Return the declared knobs."""
    from pytest_vlmlatency.estimator.inputs import Knob  # noqa: PLC0415 - imports numpy

    names = [name for name, _ in declared]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageProblem(f"--knob {twice} is given twice; declare it once")
    return tuple(Knob(name, is_category=is_category) for name, is_category in declared)


def _declared(text: str) -> tuple[str, bool]:
    name, colon, kind = text.partition(":")
    if not name or (colon and kind != CATEGORY):
        raise argparse.ArgumentTypeError(f"expected NAME or NAME:{CATEGORY}, not {text!r}")
    return name, bool(colon)


def _value(text: Text, *, is_text: bool) -> Value:
    if isinstance(text, dict):
        return {tier: value if is_text else _number(value) for tier, value in text.items()}
    return [value if is_text else _number(value) for value in text]


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text  # a tier, or what an estimator says no to
