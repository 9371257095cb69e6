"""Keep a machine quiet while a model is measured: how many CPU threads it gets, and on which cores.

Owns the default. One thread repeats best; but torch compiles for a number of threads, and would
compile again for another one, so what is compiled keeps the number that torch has.

The same random numbers in every round, and no garbage collection inside one.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.discovery.compiled_regions import compiled_regions
from pytest_vlmlatency.machine.cpu import count_cores, pinned_threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.calls.interception import Target
    from pytest_vlmlatency.options import Options


COMPILED_BY_GENERATE = "_compiled_call"
"""Where transformers keeps what generate() compiled."""
COMPILE_CONFIG = "compile_config"
"""The setting by which generate() compiles its decode on a CPU, too."""


@contextmanager
def quiet_machine(
    target: Target, devices: Sequence[torch.device], options: Options
) -> Iterator[None]:
    """Pin the threads of a model on the CPU; leave the host alone where a device computes."""
    is_on_cpu = all(device.type == "cpu" for device in devices)
    with pinned_threads(_thread_count(target, options) if is_on_cpu else 0):
        yield


def _thread_count(target: Target, options: Options) -> int:
    """Return how many threads to pin; 0 leaves threads and cores alone."""
    if options.threads is not None:
        return options.threads
    if not _is_compiled_anywhere(target):
        return 1
    n_threads = torch.get_num_threads()
    return n_threads if n_threads <= count_cores() else 0


def _is_compiled_anywhere(target: Target) -> bool:
    """Whether a model of the call is compiled, or generate() may compile it; before it has run."""
    given = {**target.bound_kwargs, **target.kwargs}
    models = [target.model, *(part for part in given.values() if isinstance(part, torch.nn.Module))]
    return _asks_for_compiling(given) or any(map(_has_compiled_parts, models))


def _asks_for_compiling(given: Mapping[str, object]) -> bool:
    config = given.get("generation_config")
    return COMPILE_CONFIG in given or getattr(config, COMPILE_CONFIG, None) is not None


def _has_compiled_parts(model: torch.nn.Module) -> bool:
    if any(hasattr(module, COMPILED_BY_GENERATE) for module in model.modules()):
        return True
    config = getattr(model, "generation_config", None)
    return bool(compiled_regions(model)) or getattr(config, COMPILE_CONFIG, None) is not None


Restore = Callable[[], None]


def remember_random_state(devices: Sequence[torch.device]) -> Restore:
    """Return a function that puts Python's, numpy's and torch's random state back as it is now."""
    python_state = random.getstate()
    cpu_state = torch.get_rng_state()
    restore_devices = [_remember_device(device) for device in devices if device.type != "cpu"]
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None

    def restore() -> None:
        random.setstate(python_state)
        torch.set_rng_state(cpu_state)
        for restore_device in restore_devices:
            restore_device()
        if numpy and numpy_state:
            numpy.random.set_state(numpy_state)

    return restore


def _remember_device(device: torch.device) -> Restore:
    backend = torch.get_device_module(device)
    which = () if device.type == "mps" else (device,)  # MPS has one device and takes no argument
    state = backend.get_rng_state(*which)
    return lambda: backend.set_rng_state(state, *which)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect young garbage now, and none until the block ends."""
    was_enabled = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
