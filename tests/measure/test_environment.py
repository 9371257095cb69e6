from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING

import pytest
import torch

import pytest_vlmlatency
from pytest_vlmlatency.machine import environment
from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.plain import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CPU = torch.device("cpu")


def test_the_machine_is_described() -> None:
    machine = read_environment([CPU]).machine

    assert machine["n_cores"] == os.cpu_count()
    assert machine["system"] == platform.system()
    assert set(machine) == {
        "cpu",
        "n_cores",
        "memory_bytes",
        "system",
        "release",
        "architecture",
    }


def test_versions_are_those_of_what_is_installed() -> None:
    versions = read_environment([CPU]).versions

    assert versions["torch"] == torch.__version__
    assert versions["pytest"] == pytest.__version__
    assert versions["pytest-vlmlatency"] == pytest_vlmlatency.__version__
    assert versions["python"].endswith(platform.python_version())


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))

    versions = read_environment([CPU]).versions

    assert "numpy" in versions
    assert "no-such-package" not in versions


def test_versions_name_what_torch_was_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)

    versions = read_environment([CPU]).versions

    assert (versions["cuda"], versions["cudnn"]) == ("13.0", "91300")


def test_settings_are_read_from_torch_at_that_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)

    settings = read_environment([CPU]).settings

    assert settings["n_threads"] == 7
    assert settings["deterministic_algorithms"] is True
    assert settings["cudnn_benchmark"] is True


@pytest.fixture
def newer_setting() -> Iterator[None]:
    """A program that has set the precision in torch 2.9's way; the older way then raises."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"),
    reason="this torch has the older setting only",
)
@pytest.mark.usefixtures("newer_setting")
def test_the_precision_is_read_after_a_program_has_used_the_newer_setting() -> None:
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        _ = torch.backends.cuda.matmul.allow_tf32

    assert read_environment([CPU]).settings["cuda_matmul_precision"] == "tf32"


@pytest.mark.parametrize(("is_allowed", "precision"), [(True, "tf32"), (False, "ieee")])
def test_the_precision_is_read_from_an_older_torch(
    monkeypatch: pytest.MonkeyPatch, *, is_allowed: bool, precision: str
) -> None:
    class OlderBackend:
        allow_tf32 = is_allowed

    monkeypatch.setattr(torch.backends.cuda, "matmul", OlderBackend())

    assert read_environment([CPU]).settings["cuda_matmul_precision"] == precision


def test_cores_are_unknown_where_the_system_has_no_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)

    assert read_environment([CPU]).settings["n_allowed_cores"] is None


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)

    assert read_environment([CPU]).machine["memory_bytes"] is None


def test_the_processor_is_named_without_a_cpuinfo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "missing")
    monkeypatch.setattr(platform, "processor", lambda: "arm")

    assert read_environment([CPU]).machine["cpu"] == "arm"


def test_the_processor_is_the_first_model_that_cpuinfo_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: Xeon 6\nprocessor : 1\nmodel name\t: Other\n")
    monkeypatch.setattr(environment, "CPUINFO", cpuinfo)

    assert read_environment([CPU]).machine["cpu"] == "Xeon 6"


def test_an_unnamed_processor_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\n")
    monkeypatch.setattr(environment, "CPUINFO", cpuinfo)
    monkeypatch.setattr(platform, "processor", lambda: "")

    assert read_environment([CPU]).machine["cpu"] is None


# Secrets


def test_no_variable_argument_path_or_host_name_gets_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = "hunter2"
    host = platform.uname_result("Linux", f"{secret}-host", "6.1", "#1", "x86_64")
    monkeypatch.setattr(platform, "uname", lambda: host)
    monkeypatch.setattr(sys, "argv", ["pytest", f"--token={secret}"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", secret)
    monkeypatch.setenv("USER", secret)
    monkeypatch.setenv("HOME", f"/home/{secret}")
    monkeypatch.setenv("OMP_NUM_THREADS", secret)
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", f"token:{secret},backend:{secret}")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", f"max_split_size_mb:{secret}")

    text = to_json(read_environment([CPU]))

    assert secret not in text
    assert str(tmp_path) not in text


def test_known_allocator_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PYTORCH_ALLOC_CONF",
        "backend:cudaMallocAsync, expandable_segments:True,unknown:1,"
        "roundup_power2_divisions:[256:1,512:2,>:8],garbage_collection_threshold:0.8",
    )

    settings = read_environment([CPU]).settings

    assert {key: value for key, value in settings.items() if "ALLOC_CONF" in key} == {
        "PYTORCH_ALLOC_CONF:backend": "cudaMallocAsync",
        "PYTORCH_ALLOC_CONF:expandable_segments": "True",
        "PYTORCH_ALLOC_CONF:roundup_power2_divisions": "[256:1,512:2,>:8]",
        "PYTORCH_ALLOC_CONF:garbage_collection_threshold": "0.8",
    }


def test_known_variables_are_kept_when_they_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("MKL_NUM_THREADS", "all of them")

    settings = read_environment([CPU]).settings

    assert settings["CUDA_LAUNCH_BLOCKING"] == "1"
    assert settings["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert settings["MKL_NUM_THREADS"] == "not a number"
