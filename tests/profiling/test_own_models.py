"""`vlmlatency profile` of a user's own model, under configurations of the user's own."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.export import read_records
from pytest_vlmlatency.inspection.user_function import user_callable
from pytest_vlmlatency.profiling.configurations import read_configurations
from pytest_vlmlatency.profiling.subject import open_subject
from tests.profiling.datasets import questions

if TYPE_CHECKING:
    from pathlib import Path

OWN = """\
from contextlib import contextmanager

from pytest_vlmlatency.models.load import load_model


class Layers:
    def __init__(self, layers):
        self.layers = layers

    def values(self):
        return {"layers": self.layers}

    @contextmanager
    def apply(self, model):
        config = model.config.text_config
        before, config.num_hidden_layers = config.num_hidden_layers, self.layers
        try:
            yield
        finally:
            config.num_hidden_layers = before

    def read_back(self, model):
        return {"layers": model.config.text_config.num_hidden_layers}


class Unfinished:
    def __init__(self, layers):
        self.layers = layers


def build():
    loaded = load_model("dummy:molmoe-nano")
    return loaded.model, loaded.prepare


def with_processor():
    loaded = load_model("dummy:molmoe-nano")
    return loaded.model.generate, loaded.processor


def loaded():
    return load_model("dummy:molmoe-nano")


def with_inputs():
    return load_model("dummy:molmoe-nano").model, {"input_ids": None}


def without_a_model():
    return "a model", lambda images, prompt: {}


def alone():
    return load_model("dummy:molmoe-nano").model
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(dedent(OWN), encoding="utf-8")
    return path


def a_grid(folder: Path, **values: object) -> Path:
    path = folder / "grid.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def opened(source: str) -> object:
    return open_subject(source, device="cpu", dtype="auto", attn=None, is_trusted=False)


def test_a_model_and_knobs_of_the_users_own_are_profiled(tmp_path: Path, own: Path) -> None:
    data = ("--dataset", str(questions(tmp_path, 1)), "--max-new-tokens", "2")
    grid = ("--configs", str(a_grid(tmp_path, layers=[2, 3])), "--configuration", f"{own}:Layers")
    status = cli.main(
        ["profile", "--model", f"{own}:build", *data, *grid, "--to", str(tmp_path / "out")]
    )

    records = list(read_records(tmp_path / "out"))
    assert status == 0
    assert [record["configuration"] for record in records] == [{"layers": 2}, {"layers": 3}]
    assert {record["model_name"] for record in records} == {f"{own.name}:build"}


@pytest.mark.parametrize("function", ["build", "with_processor", "loaded"])
def test_what_the_function_returns_makes_the_inputs_of_a_sample(own: Path, function: str) -> None:
    subject = opened(f"{own}:{function}")

    assert "input_ids" in subject.prepare([], "What is this?")  # type: ignore[attr-defined]


@pytest.mark.parametrize("function", ["with_inputs", "without_a_model", "alone"])
def test_what_makes_no_inputs_of_a_sample_is_refused(own: Path, function: str) -> None:
    with pytest.raises(UsageProblem, match=r"prepare\(images, prompt\)"):
        opened(f"{own}:{function}")


@pytest.mark.parametrize(
    ("values", "name", "words"),
    [
        ({"layer": [2]}, "Layers", "unknown knob layer; expected .* with the knobs layers"),
        ({"layers": [2]}, "Unfinished", "has no values"),
        ({"layers": [2]}, "Layer", "did you mean .*:Layers"),
        ({"layers": [2, 2]}, "Layers", "has layers=2 twice"),
    ],
)
def test_a_wrong_configuration_of_the_users_own_is_refused(
    tmp_path: Path, own: Path, values: dict[str, object], name: str, words: str
) -> None:
    with pytest.raises(UsageProblem, match=words):
        read_configurations(a_grid(tmp_path, **values), source=f"{own}:{name}")


def test_a_class_without_values_for_it_is_refused(own: Path) -> None:
    with pytest.raises(UsageProblem, match="--configs, which was not given"):
        read_configurations(None, source=f"{own}:Layers")


def test_options_of_loading_are_refused_for_a_users_function(tmp_path: Path, own: Path) -> None:
    options = ("--dataset", str(questions(tmp_path, 1)), "--to", str(tmp_path / "out"))

    assert cli.main(["profile", "--model", f"{own}:build", "--dtype", "float16", *options]) == 2


def test_two_names_of_one_file_are_of_one_module(own: Path) -> None:
    first = user_callable(f"{own}:Layers")

    assert user_callable(f"{own}:Layers") is first
