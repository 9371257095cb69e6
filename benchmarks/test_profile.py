"""A data set under many configurations, as training records of an estimator.

    pytest benchmarks/test_profile.py --samples questions.jsonl --vlm-export records/

measures each sample under each configuration in turn, and writes a record for each call. It is what
`vlmlatency profile` does, inside pytest: with its tables, its history and its workers. A long
profile is better off with the command, which goes on where it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.knobs import molmoe_grid, small_grid
from pytest_vlmlatency.profiling.dataset import Dataset, Sample, open_dataset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.models.load import LoadedModel

SHAPES = ["molmoe-nano", pytest.param("molmoe-1b-7b", marks=pytest.mark.gpu)]
PHOTOGRAPHS = Dataset(
    name="photographs",
    samples=tuple(
        Sample(
            id=name,
            prompt="What is in this picture? " * repeats,
            open_images=lambda name=name: [photograph(name, longest_side=512)],  # type: ignore[misc]  # a default binds the name
            n_new_tokens=n_new_tokens,
        )
        for name, repeats, n_new_tokens in (("coffee", 1, 4), ("chelsea", 3, 8), ("rocket", 9, 16))
    ),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each sample; the parameter `dataset` is what the records are filed under."""
    path = metafunc.config.getoption("samples")
    dataset = PHOTOGRAPHS if path is None else open_dataset(Path(path))
    metafunc.parametrize("dataset", [dataset.name])  # an id that was given would hide its value
    metafunc.parametrize("sample", dataset.samples, ids=[sample.id for sample in dataset.samples])


@pytest.mark.parametrize("loaded", SHAPES, indirect=True)
def test_sample(
    vlm_latency: VlmLatency,
    loaded: LoadedModel,
    dataset: str,
    sample: Sample,
    pytestconfig: pytest.Config,
) -> None:
    images = sample.open_images()
    configs = molmoe_grid() if pytestconfig.getoption("all_configurations") else small_grid()

    def inputs_of_the_tier() -> tuple[tuple[()], Mapping[str, object]]:
        inputs = loaded.prepare(images, sample.prompt)
        return (), {**inputs, "max_new_tokens": sample.n_new_tokens or 16}

    rounds = pytestconfig.getoption("vlm_rounds") or 1  # many samples, rather than many rounds
    vlm_latency.interleaved(loaded.model.generate, configs, setup=inputs_of_the_tier, rounds=rounds)
    assert {case.params["dataset"] for case in vlm_latency.cases} == {dataset}
