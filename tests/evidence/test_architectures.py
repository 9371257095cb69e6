"""The evidence of coverage can be false: each check and each claim fails when it should."""

from dataclasses import replace

import pytest

from benchmarks.evidence.architectures import (
    FEWEST_COVERED,
    Figures,
    Found,
    Row,
    covers_tower,
    failed_checks,
    judge,
    look_at,
)
from tests.builders import delayed
from tests.zoo import Specimen, build, vision_module
from tests.zoo.earlier import ENCODES_FIRST

AT_FIRST = "before" if ENCODES_FIRST else "inside"
NAMES = tuple(f"m{index}" for index in range(FEWEST_COVERED))


@pytest.fixture(scope="module")
def llava() -> Specimen:
    return build("llava")


@pytest.fixture(scope="module")
def found(llava: Specimen) -> Found:
    return look_at(llava)


def test_a_model_that_is_measured_right_fails_no_check(llava: Specimen, found: Found) -> None:
    assert failed_checks(llava, found) == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"step": "model"}, "step module: 'model', expected ''"),
        ({"n_blocks": 3}, "number of blocks: 3, expected 4"),
        ({"block_list": "model.x"}, "list of blocks: 'model.x', expected 'model.language_model."),
        ({"vision_runs": "both"}, f"where vision runs: 'both', expected {AT_FIRST!r}"),
        ({"n_vision_calls": 2}, "runs of vision: 2, expected 1"),
        ({"n_vision_tokens": 1}, "vision tokens: 1, expected 16"),
        ({"n_text_tokens": 1}, "text tokens: 1, expected 9"),
        ({"vision": ("model.language_model",)}, "the tower model.vision_tower is no part of"),
        ({"decode_ms": 0.0}, "decode took 0.0 ms"),
        ({"residual_ms": 0.1}, "the phases miss the total by 0.1 ms"),
        ({"changed": ("the next output",)}, "changed: the next output"),
    ],
)
def test_each_check_fails_on_what_is_wrong(
    llava: Specimen, found: Found, changes: dict[str, object], problem: str
) -> None:
    problems = failed_checks(llava, replace(found, **changes))  # type: ignore[arg-type]  # by name

    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_trace_that_measuring_leaves_is_seen() -> None:
    specimen = build("llava")
    handles = []

    def leave_a_hook() -> None:
        handles.append(vision_module(specimen).register_forward_hook(lambda *_: None))

    with delayed(specimen.model.get_submodule(specimen.step_path), leave_a_hook):
        found = look_at(specimen)

    assert found.changed == ("model.vision_tower afterwards",)


@pytest.mark.parametrize(
    ("entries", "tower", "is_covered"),
    [
        (("model.get_image_features",), "model.vision_tower", True),
        (("get_image_features",), "model.vision_tower", True),
        (("inner.get_image_features",), "model.vision_tower", False),
        (("vision",), "vision.tower", True),
        (("vision",), "vision_2", False),
        (("vision.tower.layers",), "vision.tower", False),
        ((), "vision", False),
    ],
)
def test_a_tower_is_covered_by_itself_by_what_is_around_it_or_by_a_method_above_it(
    entries: tuple[str, ...], tower: str, *, is_covered: bool
) -> None:
    assert covers_tower(entries, tower) is is_covered


def figures_of(found: Found, **changes: object) -> Figures:
    """Return a coverage of which all claims hold, with some of it changed."""
    outside = ("llava+olmoe", "molmo")
    whole = Figures(
        rows=tuple(Row(name=name, found=found, problems=()) for name in (*NAMES, *outside)),
        mapping=(*NAMES, "text"),
        reasons={"text": "takes no image"},
    )
    return replace(whole, **changes)  # type: ignore[arg-type]  # by name


def test_a_whole_coverage_holds(found: Found) -> None:
    claims = judge(figures_of(found))

    assert [claim.holds for claim in claims] == [True] * 4
    assert claims[0].seen == "60 of 61 names, 98%."


@pytest.mark.parametrize(
    ("changes", "index", "seen"),
    [
        ({"mapping": (*NAMES[1:], "text")}, 0, "59 of 60 names, 98%."),
        ({"mapping": (*NAMES, "text", "molmo")}, 1, "llava+olmoe."),
        ({"reasons": {}}, 3, "0 reasons; without one: text; covered all the same: none."),
        (
            {"reasons": {"text": "no image", "m1": "no"}},
            3,
            "2 reasons; without one: none; covered all the same: m1.",
        ),
    ],
)
def test_a_coverage_with_something_missing_does_not_hold(
    found: Found, changes: dict[str, object], index: int, seen: str
) -> None:
    claims = judge(figures_of(found, **changes))

    assert not claims[index].holds
    assert claims[index].seen == seen


@pytest.mark.parametrize("has_found", [True, False])
def test_one_model_that_fails_is_not_covered_and_fails_the_claim(
    found: Found, *, has_found: bool
) -> None:
    whole = figures_of(found)
    bad = Row(name="m0", found=found if has_found else None, problems=("vision ran twice",))

    figures = replace(whole, rows=(bad, *whole.rows[1:]))
    claims = judge(figures)

    assert len(figures.covered) == FEWEST_COVERED - 1
    assert [claim.holds for claim in claims] == [False, True, False, True]
    assert claims[2].seen == "m0: vision ran twice, 62 in all."


def test_no_models_at_all_are_no_pass(found: Found) -> None:
    assert not any(claim.holds for claim in judge(figures_of(found, rows=(), reasons={}))[:3])
