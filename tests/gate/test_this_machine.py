"""What the runs of this machine may be called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.machine.environment import fingerprints, read_environment
from pytest_vlmlatency.records import fingerprint_of
from tests.builders import see_accelerator

if TYPE_CHECKING:
    import pytest


def test_without_an_accelerator_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, None)

    assert fingerprints() == {fingerprint_of(read_environment(()))}


def test_devices_of_a_model_are_one_machine_together_and_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see_accelerator(monkeypatch, "xpu")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _device: "GPU")

    assert len(fingerprints()) == 2


def test_each_device_and_all_of_them_are_machines_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see_accelerator(monkeypatch, "xpu")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda device: f"GPU {device.index}")
    one, other = torch.device("xpu:0"), torch.device("xpu:1")

    found = fingerprints()

    assert len(found) == 4
    assert fingerprint_of(read_environment((one, other))) in found
    assert fingerprint_of(read_environment((other,))) in found
