"""A plugin for runs on the machine's own clock: `other` may take long, so that no test is a race.

Its bound of 5 ms is meant for real models. Tests of the bound move a `clock` by hand, and keep it.
`python -m tests.patience` is the `vlmlatency` command with the same patience.
"""

from __future__ import annotations

import runpy
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
    with pytest.MonkeyPatch.context() as patch:
        be_patient(patch)
        return (yield)


def be_patient(patch: pytest.MonkeyPatch) -> None:
    from pytest_vlmlatency.measure import disturbance  # noqa: PLC0415 - it imports torch

    patch.setattr(disturbance, "bound_of_other_ms", lambda total_ms: 1000.0 + total_ms)


if __name__ == "__main__":
    be_patient(pytest.MonkeyPatch())
    runpy.run_module("pytest_vlmlatency", run_name="__main__")
