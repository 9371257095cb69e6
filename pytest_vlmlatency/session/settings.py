"""What marker, command line and ini file say about the tests that were collected.

Owns the layers below the call (see `options` for their order), and the device and model that the
options choose. Imports torch only where a device was asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
    from pytest_vlmlatency.session.placement import resolve_device  # noqa: PLC0415 - imports torch

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
