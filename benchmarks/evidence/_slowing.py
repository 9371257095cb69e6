"""Parts of a model that take longer by a known CPU time, as a configuration of the engine's.

A wait is not idle. While a thread merely spins, its caches cool, and what runs next takes longer
afterwards: a true slowdown, but not the one that was put in. So a twin of the model, with the
same weights, generates while the time passes, and only the rest is spun away.
"""

import copy
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

import torch

from pytest_vlmlatency.calls.clock import NS_PER_MS
from pytest_vlmlatency.records import Scalar
from tests.zoo import Specimen, block_modules, vision_module

N_REHEARSALS = 9
MARGIN = 1.3
"""How much longer than its median a rehearsal may take before a wait overshoots."""


class Part(StrEnum):
    """What is slowed down."""

    NOTHING = "off"
    VISION = "vision"
    PREFILL = "prefill"
    DECODE = "decode"


class Waiter:
    """Uses up CPU time of the calling thread, and keeps the caches as the model leaves them."""

    def __init__(self, specimen: Specimen) -> None:
        shared = {id(weights): weights for weights in specimen.model.parameters()}
        twin = copy.deepcopy(specimen.model, shared)
        generate: Callable[..., object] = twin.generate  # type: ignore[assignment]  # a method
        self._rehearse = functools.partial(generate, **specimen.inputs, max_new_tokens=2)
        times_ns = [_thread_time_of(self._rehearse) for _ in range(N_REHEARSALS)]
        self._at_most_ns = round(median(times_ns) * MARGIN)

    def wait(self, ms: float) -> None:
        """Return once this thread has used so much CPU time."""
        end_ns = time.thread_time_ns() + round(ms * NS_PER_MS)
        while end_ns - time.thread_time_ns() > 2 * self._at_most_ns:
            self._rehearse()
        if end_ns - time.thread_time_ns() > self._at_most_ns:
            _spin_until(end_ns - self._at_most_ns)
            self._rehearse()
        _spin_until(end_ns)


class Slowed:
    """A module's forward with a wait before it, for the runs that belong to one part."""

    def __init__(
        self, forward: Callable[..., object], part: Part, wait: Callable[[], None]
    ) -> None:
        functools.update_wrapper(self, forward)
        self.part = part
        self._forward = forward
        self._wait = wait
        self._n_runs = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Wait if it is this run's turn, then run: the first run is the prompt's."""
        is_prompt = self._n_runs == 0
        self._n_runs += 1
        if is_prompt == (self.part is not Part.DECODE):
            self._wait()
        return self._forward(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay of each run of one part, in ms, as a configuration that is applied and undone."""

    specimen: Specimen
    waiter: Waiter
    part: Part
    ms: float

    def values(self) -> dict[str, Scalar]:
        """Return what is slowed down."""
        return {"slow": str(self.part)}

    @contextmanager
    def apply(self, model: object) -> Iterator[None]:
        """Slow the part down inside the context."""
        if self.part is Part.NOTHING:
            yield
            return
        module = _module(self.specimen, self.part)
        wait = functools.partial(self.waiter.wait, self.ms)
        vars(module)["forward"] = Slowed(module.forward, self.part, wait)
        try:
            yield
        finally:
            del vars(module)["forward"]

    def read_back(self, model: object) -> dict[str, Scalar]:
        """Return what is slowed down now, read from the modules that will run."""
        modules = [_module(self.specimen, part) for part in (Part.VISION, Part.PREFILL)]
        forwards = [vars(module).get("forward") for module in modules]
        found = [str(forward.part) for forward in forwards if isinstance(forward, Slowed)]
        return {"slow": " and ".join(found) or str(Part.NOTHING)}


def _thread_time_of(function: Callable[[], object]) -> int:
    start_ns = time.thread_time_ns()
    function()
    return time.thread_time_ns() - start_ns


def _spin_until(end_ns: int) -> None:
    while time.thread_time_ns() < end_ns:
        pass


def _module(specimen: Specimen, part: Part) -> torch.nn.Module:
    return vision_module(specimen) if part is Part.VISION else block_modules(specimen)[-1]
