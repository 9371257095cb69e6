"""The generator keeps its word: its machines, its noise, and what a perfect predictor misses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.generated_records import (
    COMPUTE_BOUND,
    CONFIGURATIONS,
    DATASETS,
    LAUNCH_BOUND,
    SILENT,
    GeneratedMachine,
    Noise,
    generate_records,
    true_times_ms,
    write_results,
)

MACHINES = (LAUNCH_BOUND, COMPUTE_BOUND)


def columns_of(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the inputs of records."""
    names = {
        "vision_tokens": "actual_vision_tokens",
        "text_tokens": "actual_text_tokens",
        "top_k": "top_k",
        "num_active_blocks": "num_active_blocks",
    }
    return {own: field(records, name) for own, name in names.items()}


def field(records: list[dict[str, Any]], name: str) -> np.ndarray:
    """Return one field of all records."""
    return np.array([record[name] for record in records], dtype=float)


def row(**changed: float) -> dict[str, np.ndarray]:
    """Return one row of inputs."""
    usual = {"vision_tokens": 448, "text_tokens": 40, "top_k": 8, "num_active_blocks": 12}
    return {name: np.array([float(value)]) for name, value in (usual | changed).items()}


def perfect_mape(machine: GeneratedMachine, records: list[dict[str, Any]], target: str) -> float:
    """Return the error in percent of the machine's own times."""
    times = true_times_ms(machine, columns_of(records), field(records, "decode_steps"))
    measured = field(records, target)
    return float(100 * np.mean(np.abs(measured - times[target]) / measured))


def test_there_are_27_configurations_of_as_many_records_each() -> None:
    records = generate_records(LAUNCH_BOUND, n_of_configuration=20)

    assert len(CONFIGURATIONS) == 27
    assert len(records) == 27 * 20
    assert {str(record["source"]).split("/")[0] for record in records} == set(DATASETS)


def test_one_seed_is_one_set_of_records() -> None:
    first = generate_records(LAUNCH_BOUND, n_of_configuration=9, seed=1)

    assert first == generate_records(LAUNCH_BOUND, n_of_configuration=9, seed=1)
    assert first != generate_records(LAUNCH_BOUND, n_of_configuration=9, seed=2)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("target", ["T_prefill_total", "T_decode_per_step"])
def test_without_noise_a_perfect_predictor_misses_nothing(
    machine: GeneratedMachine, target: str
) -> None:
    records = generate_records(machine, n_of_configuration=9, noise=SILENT)

    assert perfect_mape(machine, records, target) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("target", ["T_prefill_total", "T_decode_per_step"])
def test_what_a_perfect_predictor_misses_is_what_the_noise_says(
    machine: GeneratedMachine, target: str
) -> None:
    records = generate_records(machine, n_of_configuration=2000)

    assert perfect_mape(machine, records, target) == pytest.approx(Noise().perfect_mape(), rel=0.02)


def test_noise_of_2_7_percent_alone_costs_2_15_percent() -> None:
    noise = Noise(call_sd=0.027, job_sd=0, outlier_share=0)

    assert noise.perfect_mape() == pytest.approx(2.154, abs=0.001)


def test_outliers_are_as_frequent_and_as_slow_as_stated() -> None:
    noise = Noise(call_sd=0, job_sd=0, outlier_share=0.02)
    records = generate_records(LAUNCH_BOUND, n_of_configuration=1000, noise=noise)

    truth = LAUNCH_BOUND.prefill_total_ms(columns_of(records))
    ratios = field(records, "T_prefill_total") / truth
    slow = ratios[ratios > 1.0001]

    assert len(slow) / len(records) == pytest.approx(0.02, rel=0.15)
    assert slow.min() > 1.3
    assert slow.max() < 3.0


def test_a_job_shifts_all_of_its_own_records_alike_and_no_others() -> None:
    noise = Noise(call_sd=0, job_sd=0.05, outlier_share=0)
    records = generate_records(LAUNCH_BOUND, n_of_configuration=27, noise=noise)

    ratios = field(records, "T_prefill_total") / LAUNCH_BOUND.prefill_total_ms(columns_of(records))
    jobs = {str(record["source"]) for record in records}

    assert len(set(np.round(ratios, 9))) == len(jobs) == 27 * len(DATASETS)
    assert np.std(np.log(ratios)) == pytest.approx(0.05, rel=0.15)


def test_parts_of_a_record_agree() -> None:
    records = generate_records(COMPUTE_BOUND, n_of_configuration=9)

    parts = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode", "T_other")
    total = np.sum([field(records, part) for part in parts], axis=0)
    decode = field(records, "T_LLM_decode")
    n_output, n_steps = field(records, "output_tokens"), field(records, "decode_steps")
    assert total == pytest.approx(field(records, "T_total"))
    assert field(records, "T_decode_per_token") * n_output == pytest.approx(decode)
    assert field(records, "T_decode_per_step") * n_steps == pytest.approx(decode)
    assert list(n_steps) == list(n_output - 1)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("name", ["vision_tokens", "text_tokens", "top_k", "num_active_blocks"])
def test_more_work_never_takes_less(machine: GeneratedMachine, name: str) -> None:
    more = {name: np.linspace(1, 1200, 400)} | {
        other: np.full(400, values[0]) for other, values in row().items() if other != name
    }

    assert np.all(np.diff(machine.prefill_total_ms(more)) >= 0)
    assert np.all(np.diff(machine.step_times_ms(more, np.full(400, 5.0))) >= 0)


def test_the_launch_bound_machine_hardly_feels_a_token() -> None:
    few = LAUNCH_BOUND.llm_prefill_times_ms(row(vision_tokens=200))
    many = LAUNCH_BOUND.llm_prefill_times_ms(row(vision_tokens=600))

    assert 1 < many[0] / few[0] < 1.2


def test_the_compute_bound_machine_pays_by_the_tile() -> None:
    silent = replace(COMPUTE_BOUND, token_pair_ms=0, vision_token_ms=0)
    times = [
        silent.llm_prefill_times_ms(row(vision_tokens=tokens, text_tokens=0))[0]
        for tokens in (449, 512, 513)
    ]

    assert times[0] == times[1]
    assert times[2] > 1.05 * times[1]


def test_the_compute_bound_machine_falls_off_a_cliff_above_6_experts() -> None:
    step = [
        COMPUTE_BOUND.step_times_ms(row(top_k=top_k), np.array([5.0]))[0] for top_k in (5, 6, 7)
    ]

    assert step[2] - step[1] > 3 * (step[1] - step[0])


def test_results_are_written_as_the_experiment_leaves_them(tmp_path: Path) -> None:
    records = generate_records(LAUNCH_BOUND, n_of_configuration=9)

    write_results(tmp_path, records)

    path = tmp_path / "doc_qa" / "tier-low_topk-4_blocks-8.json"
    assert len(list(tmp_path.glob("*/*.json"))) == 27 * 9
    assert json.loads(path.read_text())["per_sample_results"] == [
        record for record in records if record["source"] == "doc_qa/tier-low_topk-4_blocks-8.json"
    ]
