"""The configurations of a profile: a list or a grid, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.export.writing import configuration_name
from pytest_vlmlatency.profiling.configurations import read_configurations
from tests.profiling.datasets import a_grid

if TYPE_CHECKING:
    from pathlib import Path


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    found = read_configurations(a_grid(tmp_path))

    assert [configuration_name(one.values()) for one in found if one] == ["low-k4-b8", "low-k8-b8"]


def test_a_list_is_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"tier": "high", "top_k": 12}, {"tier": 0, "top_k": 4}]))

    assert [configuration_name(one.values()) for one in read_configurations(path) if one] == [
        "high-k12-b16",
        "low-k4-b16",
    ]


def test_without_a_file_the_model_is_as_it_is() -> None:
    assert read_configurations(None) == (None,)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no configuration"),
        ("{}", "holds {}"),
        ("7", "holds no configuration"),
        ('["low"]', "holds 'low'"),
        ('[{"experts": 4}]', "unknown knob experts"),
        ('{"tier": "low"}', "tier is 'low'"),
        ('[{"top_k": 99}]', "top_k is 99; expected a whole number from 4 to 12"),
        ('[{"top_k": 4}, {"top_k": 4, "tier": "high"}]', "high-k4-b16 twice"),
        ('{"top_k": []}', "holds no configuration"),
    ],
)
def test_a_file_that_says_anything_else_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "x.json").write_text(content)

    with pytest.raises(UsageProblem, match=words):
        read_configurations(tmp_path / "x.json")
