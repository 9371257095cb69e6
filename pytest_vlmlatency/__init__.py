"""Split a vision-language model's generate() into its phases, and refuse what cannot be true.

The names below are loaded on first use: importing the package imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.calls.recorder import span
    from pytest_vlmlatency.errors import InvalidMeasurement
    from pytest_vlmlatency.measure.run import measure_generate
    from pytest_vlmlatency.records import Call, Case, Phase, Run, Span
    from pytest_vlmlatency.versions import __version__ as __version__

__all__ = [
    "Call",
    "Case",
    "InvalidMeasurement",
    "Phase",
    "Run",
    "Span",
    "measure_generate",
    "span",
]

_HOMES = {
    "__version__": "versions",
    "Call": "records",
    "Case": "records",
    "InvalidMeasurement": "errors",
    "Phase": "records",
    "Run": "records",
    "Span": "records",
    "measure_generate": "measure.run",
    "span": "calls.recorder",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - keeps pytest's start-up light

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
