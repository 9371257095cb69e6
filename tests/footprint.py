"""What measuring must leave as it was: a model to the last bit, and the process around it."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch.nn.modules import module as torch_module

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = tuple(name for name in vars(torch.nn.Module()) if name.endswith(("hooks", "_with_kwargs")))
GLOBAL_TABLES = tuple(name for name in vars(torch_module) if name.startswith("_global_"))
CACHE_FLUSHES = (
    ("torch.cuda", "empty_cache"),
    ("torch.xpu", "empty_cache"),
    ("torch.mps", "empty_cache"),
    ("torch.accelerator", "empty_cache"),
    ("torch.accelerator.memory", "empty_cache"),
    ("torch._C", "_cuda_emptyCache"),
    ("torch._C", "_accelerator_emptyCache"),
)
"""What is watched while a measurement runs, as far as the installed torch has it."""

Footprint = dict[str, object]


def footprint(model: torch.nn.Module) -> Footprint:
    """Return, by name, everything that a measurement might have left on a model or the process."""
    return dict((*_of_modules(model), *_of_weights(model), *_of_process()))


def differences(before: Footprint, after: Footprint) -> dict[str, tuple[object, object]]:
    """Return what differs between two footprints, as it was and as it is."""
    return {
        name: (before.get(name), after.get(name))
        for name in (*before, *(name for name in after if name not in before))
        if before.get(name) != after.get(name)
    }


def _of_modules(model: torch.nn.Module) -> Iterator[tuple[str, object]]:
    for path, module in model.named_modules():
        for table in TABLES:
            yield f"{path}: {table}", tuple(getattr(module, table).items())
        for name, value in vars(module).items():
            yield f"{path}: attribute {name}", _state(value)
        yield f"{path}: training", module.training


def _state(value: object) -> object:
    """Return a plain value, a tensor's or a configuration's values; of anything else, which it is.

    generate() makes some tensors anew in each call, with the same values.
    """
    if isinstance(value, torch.Tensor):
        return _digest(value)
    if isinstance(value, bool | int | float | str | None):
        return value
    to_dict = getattr(value, "to_dict", None)
    return (id(value), repr(to_dict()) if callable(to_dict) else _keys(value))


def _keys(value: object) -> object:
    return tuple(map(str, value)) if isinstance(value, Mapping) else None


def _of_weights(model: torch.nn.Module) -> Iterator[tuple[str, object]]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        flags = tensor.requires_grad, tensor.grad is None
        yield f"weights of {name}", (id(tensor), _digest(tensor), *flags)


def _digest(tensor: torch.Tensor) -> str:
    values = tensor.detach().reshape(-1).view(torch.uint8)
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def _of_process() -> Iterator[tuple[str, object]]:
    for name in GLOBAL_TABLES:
        table = getattr(torch_module, name)
        yield name, tuple(table) if isinstance(table, Mapping) else table
    for owner, name in CACHE_FLUSHES:
        yield f"{owner}.{name}", id(getattr(sys.modules.get(owner), name, None))
    yield "garbage collection", (gc.isenabled(), gc.get_threshold())
    yield "torch threads", torch.get_num_threads()
    yield "cores", frozenset(os.sched_getaffinity(0))
    yield "gradients", (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    yield "autocast", (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    yield "default dtype", torch.get_default_dtype()
    yield (
        "determinism",
        (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
        ),
    )
    yield "matmul precision", torch.get_float32_matmul_precision()
    yield "random numbers", (random.getstate(), torch.get_rng_state().numpy().tobytes())
    yield "environment", dict(os.environ)
