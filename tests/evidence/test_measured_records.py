"""How records are measured for the estimators: the questions, and the two passes."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import _measured_records as measured
from benchmarks.evidence._measured_records import (
    DATASET,
    N_CONFIGURATIONS,
    QUESTIONS,
    measure_records,
    prompt_of,
    read_circumstances,
    works_of,
    write_dataset,
)
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.models.knobs import molmoe_grid
from pytest_vlmlatency.profiling.dataset import open_dataset


def test_every_question_becomes_a_sample_with_an_answer_of_its_own_length(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path))

    assert dataset.name == DATASET
    assert [sample.n_new_tokens for sample in dataset.samples] == [
        question.n_new_tokens for question in QUESTIONS
    ]
    assert all(len(sample.open_images()) == 1 for sample in dataset.samples)


def test_a_prompt_has_as_many_words_as_asked_for() -> None:
    assert len(prompt_of(100).split()) == 100


def test_the_grid_has_the_configurations_that_it_is_said_to_have() -> None:
    configurations = list(product(*measured.GRID.values()))

    assert len(configurations) == N_CONFIGURATIONS
    assert configurations == [tuple(one.values().values()) for one in molmoe_grid()]


def test_two_passes_measure_each_work_as_often_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "FOLDER", tmp_path)
    monkeypatch.setattr(measured, "RECORDS", tmp_path / "records.parquet")
    monkeypatch.setattr(measured, "CIRCUMSTANCES", tmp_path / "environment.json")
    monkeypatch.setattr(measured, "QUESTIONS", QUESTIONS[:1])
    monkeypatch.setattr(
        measured, "GRID", {"tier": ["low"], "top_k": [4, 8], "num_active_blocks": [8]}
    )
    monkeypatch.setattr(measured, "PASSES", (1, 3))

    measure_records(tmp_path / "profile")

    table = table_of(tmp_path / "records.parquet")
    assert sorted(np.bincount(works_of(table))) == [3, 3]
    assert len({str(source).partition("/")[0] for source in table.sources}) == 2
    assert read_circumstances().n_left_out == 0


def test_a_profile_that_cannot_be_made_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "MODEL", "dummy:no-such-model")
    monkeypatch.setattr(measured, "FOLDER", tmp_path)

    with pytest.raises(RuntimeError, match="the profile ended with 2; expected 0 or 1"):
        measure_records(tmp_path / "profile")
