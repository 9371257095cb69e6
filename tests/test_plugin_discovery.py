"""With -v pytest says how the phases of each case were found, with workers and without."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.projects import in_subprocess

if TYPE_CHECKING:
    import pytest

CASES = """\
import pytest
import torch

from tests.measure.custom_models import ASKED, Captioner


@pytest.fixture(scope="session")
def model():
    return Captioner()


@pytest.mark.vlm_latency(rounds=2)
@pytest.mark.parametrize("n_tokens", [4, 5, 6])
def test_caption(vlm_latency, model, n_tokens):
    vlm_latency(model.generate, **ASKED, max_new_tokens=n_tokens)


@pytest.mark.vlm_latency(rounds=2)
def test_wide(vlm_latency, model):
    vlm_latency(model.generate, **ASKED | {"images": torch.zeros(1, 3, 32, 48)})
"""

ONE = "Captioner, images float32[1, 3, 32, 32], greedy"
WIDE = "Captioner, images float32[1, 3, 32, 48], greedy"


def test_each_discovery_has_a_line_with_its_time(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(CASES)

    result = in_subprocess(pytester, monkeypatch, "-v")

    result.assert_outcomes(passed=4)
    lines = [line for line in result.stdout.lines if line.startswith("Phases of ")]
    assert [re.sub(r"\d+\.\d ms", "T ms", line) for line in lines] == [
        f"Phases of test_caption[4]: {ONE}: watched in T ms.",
        f"Phases of test_caption[5]: {ONE}: remembered from a case before it, in T ms.",
        f"Phases of test_caption[6]: {ONE}: remembered from a case before it, in T ms.",
        f"Phases of test_wide: {WIDE}: watched in T ms.",
    ]


def test_without_v_nothing_is_said_of_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(CASES)

    result = in_subprocess(pytester, monkeypatch)

    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("Phases of *")


def test_workers_deliver_how_phases_were_found(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(CASES)

    result = in_subprocess(pytester, monkeypatch, "-v", "-n2", "--vlm-json=run.json")

    result.assert_outcomes(passed=4)
    run = json.loads((pytester.path / "run.json").read_text())
    assert {case["discovery"]["model"] for case in run["cases"]} == {"Captioner"}
    assert all(case["discovery"]["time_ms"] > 0 for case in run["cases"])
    said = "\n".join(line for line in result.stdout.lines if line.startswith("Phases of "))
    for case in run["cases"]:
        how = "remembered" if case["discovery"]["is_remembered"] else "watched"
        assert f"Phases of {case['name']}: Captioner, {case['discovery']['inputs']}: {how}" in said
