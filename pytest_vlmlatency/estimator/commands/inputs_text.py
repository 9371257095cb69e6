"""Inputs as text: `top_k=4,8`, `tier=low`, and tokens that follow the tier, `low:288,high:792`."""

from __future__ import annotations

import argparse

Value = list[object] | dict[str, object]


def named_values(text: str) -> tuple[str, Value]:
    """Return one input's name and values: a list, or a number for each tier."""
    name, separator, rest = text.partition("=")
    parts = rest.split(",")
    if not name or not separator or "" in parts:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE[,VALUE...], not {text!r}")
    if not any(":" in part for part in parts):
        return name, [_value(part) for part in parts]
    pairs = [part.partition(":") for part in parts]
    if not all(tier and colon and value for tier, colon, value in pairs):
        raise argparse.ArgumentTypeError(f"expected NAME=TIER:VALUE[,TIER:VALUE...], not {text!r}")
    return name, {tier: _value(value) for tier, _, value in pairs}


def _value(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text  # a tier, or a category
