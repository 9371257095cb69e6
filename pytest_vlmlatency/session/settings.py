"""What marker, command line and ini file say about the tests that were collected.

Owns the layers below the call (see `options` for their order), and the device and model that the
options choose. Imports torch only where a device was asked for.

Which device a measurement is on: what `--gpu` and `--vlm-device` find, and what to call it.

Imports torch, so it is loaded when a test that measures was collected and a device was asked for,
or when that test runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import NoAccelerator, UsageProblem
from pytest_vlmlatency.models.accelerator import visible_accelerator
from pytest_vlmlatency.options import COMMAND_LINE, ModelChoice, marker_layer
from pytest_vlmlatency.session.command_line import dest_of, said_in_ini, setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest


FIXTURE = "vlm_latency"
CODSPEED = "CODSPEED_ENV"
"""The variable by which CodSpeed's runner switches its plugin on, as `--codspeed` does."""

NOT_RUN: Mapping[str, str] = {
    "collectonly": "--collect-only",
    "setupplan": "--setup-plan",
    "setuponly": "--setup-only",
    "benchmark_skip": "--benchmark-skip",
}
"""Options under which no test of ours runs, by their names in pytest's configuration."""


def layers_of(item: pytest.Item) -> Sequence[Mapping[str, object]]:
    """Return what applies to a test below the call, strongest first, and the chosen device."""
    return (*said_of(item), {"device": chosen_device(item.config)})


def said_of(item: pytest.Item) -> Sequence[Mapping[str, object]]:
    """Return what was said of a test below the call: markers, command line, ini, in this order."""
    config = item.config
    markers = [marker_layer(mark.args, mark.kwargs) for mark in item.iter_markers(FIXTURE)]
    said = {key: config.getoption(dest_of(name), None) for key, name in COMMAND_LINE.items()}
    in_ini = {key: said_in_ini(config, name) for key, name in COMMAND_LINE.items()}
    return (*markers, said, in_ini)


def chosen_device(config: pytest.Config) -> str | None:
    """Return the device that --gpu and --vlm-device mean, None where neither was given."""
    is_gpu_asked = bool(config.getoption("vlm_gpu", None))
    named = setting(config, "--vlm-device")
    if is_gpu_asked and config.getoption("vlm_device", None) is None:
        named = None  # --gpu was said on the command line, which is stronger than the ini file
    if not is_gpu_asked and named is None:
        return None

    return resolve_device(None if named is None else str(named), is_gpu_asked=is_gpu_asked)


def model_choice(config: pytest.Config) -> ModelChoice | None:
    """Return what --vlm-model and its companions ask for, None without a --vlm-model."""
    name = setting(config, "--vlm-model")
    if name is None:
        return None
    attn = setting(config, "--vlm-attn")
    return ModelChoice(
        name=str(name),
        device=chosen_device(config) or "cpu",
        dtype=str(setting(config, "--vlm-dtype") or "auto"),
        attn=None if attn is None else str(attn),
        compile=bool(setting(config, "--vlm-compile")),
        trust_remote_code=bool(setting(config, "--vlm-trust-remote-code")),
    )


def off_because(config: pytest.Config) -> str:
    """Return the option for which this run of pytest measures nothing, "" where it measures."""
    chosen = (option for dest, option in NOT_RUN.items() if config.getoption(dest, None))
    if (option := next(chosen, None)) is not None:
        return option
    if not is_disabled(config):
        return ""
    if config.getoption("codspeed", None) or CODSPEED in os.environ:
        return "--codspeed, by which pytest-codspeed disables pytest-benchmark"
    if not getattr(config.known_args_namespace, "benchmark_disable", False):
        return "another plugin, which disabled pytest-benchmark"
    return "--benchmark-disable"


def is_disabled(config: pytest.Config) -> bool:
    """Return whether measuring was switched off; that pytest-xdist does so doesn't count."""
    return bool(
        config.getoption("benchmark_disable", None)
        and not config.getoption("benchmark_enable", None)
    )


def resolve_device(named: str | None, *, is_gpu_asked: bool) -> str | None:
    """Return the device that `--vlm-device` and `--gpu` mean together; None leaves it open."""
    if named is not None:
        _check_device(named, is_gpu_asked=is_gpu_asked)
        return named
    return _current_accelerator() if is_gpu_asked else None


def place_of(device: torch.device) -> str:
    """Name a device so that processes which see it under different numbers agree."""
    if device.type == "cpu":
        return "cpu"
    describe = getattr(torch.get_device_module(device.type), "get_device_properties", None)
    uuid = None if describe is None else getattr(describe(device), "uuid", None)
    return f"{device.type}-{uuid or device.index or 0}"


def _current_accelerator() -> str:
    accelerator = visible_accelerator()
    if accelerator is None:
        raise NoAccelerator(
            f"--gpu: torch {torch.__version__} sees no accelerator ({_what_torch_saw()}); install "
            f"a torch built for yours, make its driver visible to this process, or leave --gpu out"
        )
    return accelerator.type


def _check_device(named: str, *, is_gpu_asked: bool) -> None:
    try:
        device = torch.device(named)
    except RuntimeError:
        raise UsageProblem(
            f"--vlm-device {named}: torch knows no such kind of device; "
            f"expected cpu, cuda, xpu or mps, and an index where there are several (cuda:1)"
        ) from None
    if device.type == "cpu":
        if is_gpu_asked:
            raise UsageProblem(f"--gpu and --vlm-device {named} contradict each other; give one")
        return
    accelerator = visible_accelerator()
    if accelerator is None or accelerator.type != device.type:
        raise NoAccelerator(
            f"--vlm-device {named}: torch {torch.__version__} has no usable {device.type} "
            f"({_what_torch_saw()})"
        )
    n_devices = torch.accelerator.device_count()
    if ":" in named and device.index >= n_devices:
        raise NoAccelerator(
            f"--vlm-device {named}: torch sees {n_devices} {device.type} device(s), "
            f"numbered from 0 on"
        )


def _what_torch_saw() -> str:
    built_for = [
        name
        for name, is_built in (
            ("CUDA", torch.version.cuda is not None),
            ("ROCm", torch.version.hip is not None),
            ("XPU", torch.version.xpu is not None),
            ("MPS", torch.backends.mps.is_built()),
        )
        if is_built
    ]
    seen = visible_accelerator()
    return (
        f"built for {', '.join(built_for) or 'the CPU only'}; "
        f"visible: {'none' if seen is None else f'{torch.accelerator.device_count()} {seen.type}'}"
    )
