"""Phases that are named in a marker or in a call reach the record, with workers and without."""

from __future__ import annotations

import json

import pytest

import tests.measure.custom_models  # noqa: F401 - torch cannot be imported twice in a process
from tests.projects import in_subprocess

NAMED = """\
import pytest

from tests.measure.custom_models import ASKED, Captioner

BY_METHOD = {"vision": lambda model: model.encode, "blocks": lambda model: list(model.blocks)}


@pytest.mark.vlm_latency(phases=BY_METHOD, rounds=2)
def test_marked(vlm_latency):
    vlm_latency(Captioner().generate, **ASKED)


def test_called(vlm_latency):
    vlm_latency.pedantic(Captioner().generate, kwargs=ASKED, rounds=2, phases=BY_METHOD)
"""


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_named_phases_are_in_the_file_as_paths(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(NAMED)

    result = in_subprocess(pytester, monkeypatch, *workers, "--vlm-json=run.json")

    result.assert_outcomes(passed=2)
    run = json.loads((pytester.path / "run.json").read_text())
    maps = [case["phase_map"] for case in run["cases"]]
    assert [found["vision_methods"] for found in maps] == [["encode"], ["encode"]]
    assert [found["blocks"] for found in maps] == [["blocks.0", "blocks.1", "blocks.2"]] * 2


@pytest.mark.parametrize(
    ("phases", "problem"),
    [
        ("{'vision': 'visoin'}", "*names 'visoin' for vision*near matches: 'vision'*"),
        ("{'step': lambda model: Captioner()}", "*a Captioner for step that is outside the model*"),
    ],
)
def test_a_part_that_is_not_there_fails_the_test_by_name(
    pytester: pytest.Pytester, phases: str, problem: str
) -> None:
    pytester.makepyfile(
        f"""
        from tests.measure.custom_models import ASKED, Captioner

        def test_caption(vlm_latency):
            vlm_latency.pedantic(Captioner().generate, kwargs=ASKED, phases={phases})
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([problem])
