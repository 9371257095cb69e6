"""Estimators by the names that the command line and files have for them; imported when asked."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, cast

from pytest_vlmlatency.estimator.files import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.estimator.inputs import Knob
    from pytest_vlmlatency.estimator.protocol import Estimator


def maker_of(kind: str, *, knobs: Sequence[Knob] = ()) -> Callable[[], Estimator]:
    """Return what makes a new estimator of a kind with these knobs, else with its own defaults."""
    module, name = KINDS[kind]
    make = cast("Callable[..., Estimator]", getattr(import_module(module), name))
    return partial(make, knobs=knobs)
