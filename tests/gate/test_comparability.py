from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vlmlatency.gate.comparability import (
    named_differences,
    version_differences,
    work_differences,
)
from pytest_vlmlatency.records import (
    Environment,
    Rounds,
    fingerprint_of,
    machine_differences,
    rounds_of,
)
from tests.cases import a_case
from tests.gate.runs import ENVIRONMENT


def some_rounds(**workload: object) -> Rounds:
    rounds = rounds_of(a_case())
    assert rounds.workload is not None
    return replace(rounds, workload=replace(rounds.workload, **workload))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"n_text_tokens": 9}, "text tokens: 8, then 9"),
        ({"n_vision_tokens": 64}, "vision tokens: 16, then 64"),
        ({"n_output_tokens": 5}, "output tokens: 4, then 5"),
        ({"batch_size": 2}, "batch size: 1, then 2"),
        ({"model": "Other"}, "model: TinyForConditionalGeneration, then Other"),
        (
            {"generation": {"max_new_tokens": 4, "num_beams": 2}},
            "generation setting num_beams: none, then 2",
        ),
        (
            {"inputs": {"pixel_values": "float32[1, 3, 64, 64]"}},
            "input pixel_values: [1, 3, 32, 32], then [1, 3, 64, 64]",
        ),
    ],
)
def test_other_work_is_not_comparable_and_its_rule_is_named(
    changed: dict[str, object], difference: str
) -> None:
    assert work_differences(some_rounds(), some_rounds(**changed)) == (difference,)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"device": "cuda:0"}, "device kind: cpu, then cuda"),
        ({"n_threads": 4}, "threads: none, then 4"),
        ({"config": {"tier": "low"}}, "configuration: none, then tier=low"),
        ({"measure": "wall_ms"}, "measure: cpu_ms, then wall_ms"),
    ],
)
def test_other_circumstances_of_a_case_are_not_comparable_either(
    changed: dict[str, object], difference: str
) -> None:
    after = replace(some_rounds(), **changed)  # type: ignore[arg-type]  # by name

    assert work_differences(some_rounds(), after) == (difference,)


def test_another_index_of_the_same_kind_of_device_is_no_difference() -> None:
    one, other = (replace(some_rounds(), device=device) for device in ("cuda:0", "cuda:1"))

    assert work_differences(one, other) == ()


def test_a_model_on_more_devices_is_other_work() -> None:
    one, two = (
        replace(some_rounds(), device=device)
        for device in ("cuda:1 (NVIDIA H200)", "cuda:0 (NVIDIA H200), cuda:1 (NVIDIA H200)")
    )

    assert work_differences(one, two) == ("devices: 1, then 2",)


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"dtype": "bfloat16"}, "dtype: float32, then bfloat16"),
        ({"attention": "sdpa"}, "attention: eager, then sdpa"),
        ({"n_parameters": 1200}, "parameters: 1000, then 1200"),
        ({"output_digest": "1" * 16}, f"output: {'0' * 16}, then {'1' * 16}"),
        (
            {"inputs": {"pixel_values": "bfloat16[1, 3, 32, 32]"}},
            "dtype of input pixel_values: float32, then bfloat16",
        ),
    ],
)
def test_what_a_commit_may_change_is_named_and_judged_all_the_same(
    changed: dict[str, object], difference: str
) -> None:
    assert work_differences(some_rounds(), some_rounds(**changed)) == ()
    assert named_differences(some_rounds(), some_rounds(**changed)) == (difference,)


def test_another_torch_is_named_and_is_no_other_machine() -> None:
    newer = replace(ENVIRONMENT, versions={**ENVIRONMENT.versions, "torch": "2.14.0"})

    assert version_differences(ENVIRONMENT, newer) == ("torch: 2.13.0, then 2.14.0",)
    assert machine_differences(ENVIRONMENT, newer) == ()


def test_what_runs_the_tests_and_not_the_model_is_not_named() -> None:
    newer = replace(ENVIRONMENT, versions={**ENVIRONMENT.versions, "pytest": "10.0.0"})

    assert version_differences(ENVIRONMENT, newer) == ()


def accelerators(*names: str) -> Environment:
    """Return a machine on whose devices cases ran: an index and a uuid of their own, alike else."""
    devices = (
        {"device": f"cuda:{i}", "uuid": str(i), "name": name, "driver": "570.1"}
        for i, name in enumerate(names)
    )
    return replace(ENVIRONMENT, devices=tuple(devices))


def test_how_many_workers_shared_devices_of_a_model_is_no_difference_of_machines() -> None:
    alone, shared = accelerators("H200"), accelerators("H200", "H200", "H200")

    assert machine_differences(alone, shared) == ()
    assert fingerprint_of(alone) == fingerprint_of(shared)


def test_devices_of_another_model_are_another_machine() -> None:
    assert machine_differences(accelerators("H200"), accelerators("H200", "A100")) == (
        "devices: H200, then A100, H200",
    )


def test_clocks_kernels_and_memory_are_no_difference_of_machines() -> None:
    machine = {**ENVIRONMENT.machine, "release": "6.1.2", "memory_bytes": 1}

    assert machine_differences(ENVIRONMENT, replace(ENVIRONMENT, machine=machine)) == ()
