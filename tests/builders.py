"""What tests of measuring share: a clock moved by hand, and models whose modules move it."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch

from pytest_vlmlatency.calls.clock import NS_PER_MS, Stamp, host_measures


class FakeClock:
    """A clock that stands still until a test moves it; wall and CPU time go together."""

    device = "cpu"

    def __init__(self) -> None:
        self.now_ns = 0

    def advance_ms(self, ms: float) -> None:
        self.now_ns += round(ms * NS_PER_MS)

    def stamp(self, *, wait: bool) -> Stamp:
        return Stamp(self.now_ns, self.now_ns)

    def tick(self) -> int:
        return self.now_ns

    def measures(self, start: Stamp, end: Stamp) -> Mapping[str, float]:
        return host_measures(start, end)


Delay = Callable[[], None]


@contextmanager
def delayed(module: torch.nn.Module, delay: Delay) -> Iterator[None]:
    """Let `delay` run inside each forward of a module, as if the module itself were slower."""
    forward = module.forward

    @functools.wraps(forward)
    def slower(*args: object, **kwargs: object) -> object:
        delay()
        return forward(*args, **kwargs)

    vars(module)["forward"] = slower
    try:
        yield
    finally:
        del vars(module)["forward"]


def see_accelerator(monkeypatch: pytest.MonkeyPatch, kind: str | None) -> None:
    """Let torch see an accelerator of this kind, or none."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(str(kind)))
