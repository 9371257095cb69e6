"""Numbers as people write them. Pure."""

from __future__ import annotations

SCALES = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def number_of_parameters(n: int) -> str:
    """Return a count as three digits and a unit: 7.26 B, 12.3 M, 456 K, 32."""
    for scale, unit in SCALES:
        if n >= scale:
            value = n / scale
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return str(n)


def counted(n: int, noun: str) -> str:
    """Return a count with its noun: 1 step, 7 steps."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def times(n: int) -> str:
    """Return how often: never, once, 7 times."""
    return {0: "never", 1: "once"}.get(n, f"{n} times")
