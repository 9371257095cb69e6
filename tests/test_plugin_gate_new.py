"""--vlm-gate where the baseline lacks a test or cannot run it: two real commits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.paired.pairs import OTHER_ID
from tests.gated_projects import BENCHMARK, gated_project
from tests.projects import in_subprocess
from tests.repositories import commit

if TYPE_CHECKING:
    from pathlib import Path

GATE = ("--vlm-gate", "--vlm-verdict=verdict.json", "-p", "no:cacheprovider")
NOT_APPLIED = 12


@pytest.fixture
def root(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with one commit and no history."""
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    return pytester.path


NEWER = {"captioner.py": "SLOWER = NEWER = {}\n"}
OF_NEWER = BENCHMARK.replace("captioner.SLOWER", "captioner.NEWER")
OF_BOTH = """\
import captioner
import pytest
import torch


class Model(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def generate(self, **kwargs):
        return getattr(captioner, self.name)


@pytest.mark.parametrize("name", {names})
def test_caption(vlm_latency, name):
    vlm_latency(Model(name).generate)
"""


def cases_by_state(root: Path) -> dict[str, list[str]]:
    """Return each state of the report's cases with the reasons for it."""
    states: dict[str, list[str]] = {}
    for case in json.loads((root / "verdict.json").read_text())["report"]["cases"]:
        states.setdefault(case["state"], []).append(case["reason"])
    return states


def test_a_test_that_the_baseline_has_and_cannot_run_is_not_applied_with_the_reason(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {**NEWER, "test_x.py": OF_NEWER})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == NOT_APPLIED
    assert cases_by_state(root) == {
        "not applied": [
            "could not be measured at the baseline: "
            "AttributeError: module 'captioner' has no attribute 'NEWER'"
        ]
    }


def test_a_test_that_the_baseline_does_not_have_is_new_beside_one_that_it_has(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    added = (
        OF_NEWER.partition("\n\n\n")[2]
        .replace("Model", "Newer")
        .replace("test_caption", "test_newer")
    )
    commit(root, {**NEWER, "test_x.py": BENCHMARK + "\n\n" + added})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    assert cases_by_state(root) == {"judged": [""], "new": ["the baseline does not have this test"]}


def test_a_test_in_a_file_that_the_baseline_does_not_have_is_new_alone_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    commit(root, {**NEWER, "test_y.py": OF_NEWER})

    result = in_subprocess(pytester, monkeypatch, *GATE, "test_y.py")

    assert result.ret == pytest.ExitCode.OK
    assert cases_by_state(root) == {"new": ["the baseline does not have this test"]}
    assert "Not confirmed by fresh pairs" not in result.stdout.str()


def test_a_test_whose_id_differs_in_each_process_is_not_applied_and_says_so(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    named = "import uuid\n" + OF_BOTH.replace("{names}", "['SLOWER'], ids=[str(uuid.uuid4())]")
    commit(root, {"test_x.py": named})
    commit(root, {"captioner.py": "SLOWER = {'vision_ms': 19}\n"})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    assert result.ret == NOT_APPLIED
    assert cases_by_state(root) == {"not applied": [f"could not be measured again: {OTHER_ID}"]}
    assert result.stdout.str().count(OTHER_ID) == 1


@pytest.mark.parametrize(
    "names", ["['SLOWER', 'NEWER']", "[n for n in dir(captioner) if n.isupper()]"]
)
def test_a_model_that_only_the_candidate_has_is_new(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path, names: str
) -> None:
    before = names.replace(", 'NEWER'", "")
    commit(root, {"test_x.py": OF_BOTH.replace("{names}", before)})
    commit(root, {**NEWER, "test_x.py": OF_BOTH.replace("{names}", names)})

    result = in_subprocess(pytester, monkeypatch, *GATE)

    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    assert cases_by_state(root) == {"judged": [""], "new": ["the baseline does not have this test"]}
