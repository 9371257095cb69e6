"""A plugin for runs on the machine's own clock: `other` may take long, so that no test is a race.

Its bound of 5 ms is meant for real models. Tests of the bound move a `clock` by hand, and keep it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    names = getattr(item, "fixturenames", ())
    if "clock" in names or not ("torch" in sys.modules or "vlm_latency" in names):
        return (yield)
    from pytest_vlmlatency.measure import disturbance  # noqa: PLC0415 - it imports torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disturbance, "bound_of_other_ms", lambda total_ms: 1000.0 + total_ms)
        return (yield)
