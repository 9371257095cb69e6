"""Keep a machine quiet while a model is measured: how many CPU threads it gets, and on which cores.

Owns the default. One thread repeats best; but torch compiles for a number of threads, and would
compile again for another one, so what is compiled keeps the number that torch has.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.measure.pinning import count_cores, pinned_threads
from pytest_vlmlatency.measure.regions import compiled_regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.measure.interception import Target
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
