"""Lines of the page that not every model has."""

from dataclasses import replace

import pytest

from pytest_vlmlatency.inspection.findings import CallRow, Inspection
from pytest_vlmlatency.inspection.look import look_at
from pytest_vlmlatency.inspection.page import page_lines
from pytest_vlmlatency.inspection.request import Request


@pytest.fixture(scope="module")
def found() -> Inspection:
    request = Request(source="dummy:llava-tiny", threads=0)
    return look_at(request, report=lambda _line: None).inspection


def with_phases(found: Inspection, **changes: object) -> Inspection:
    return replace(found, phase_map=replace(found.phase_map, **changes))  # type: ignore[arg-type]  # a field each


def with_tokens(found: Inspection, **changes: object) -> Inspection:
    return replace(found, tokens=replace(found.tokens, **changes))  # type: ignore[arg-type]  # a field each


def test_experts_that_change_for_decode_are_said_by_phase(found: Inspection) -> None:
    lines = page_lines(
        with_phases(found, experts={"prefill": "grouped_mm", "decode": "batched_mm"}), width=100
    )

    assert (
        "  Experts implementations of its parts: grouped_mm in prefill; batched_mm in decode."
        in lines
    )


def test_the_default_of_experts_is_not_worth_a_line(found: Inspection) -> None:
    lines = page_lines(with_phases(found, experts={"prefill": "eager"}), width=100)

    assert [line for line in lines if "Experts" in line] == []


def test_compiled_regions_are_named(found: Inspection) -> None:
    compiled = with_phases(found, compiled=("model.vision_tower", ""))

    assert "  Compiled as a whole: model.vision_tower, the model." in page_lines(compiled, width=80)


def test_steps_that_generate_compiles_are_said(found: Inspection) -> None:
    lines = page_lines(replace(found, labels=("static-cache", "compiled")), width=80)

    assert "  generate() compiles decode steps by itself." in lines


def test_several_images_in_several_rows_are_counted_apart(found: Inspection) -> None:
    lines = page_lines(
        with_tokens(found, n_vision=24, n_images=2, per_image=(16, 8), batch_size=2), width=80
    )

    assert "tokens, as the decoder sees them, 2 rows together" in lines
    assert "  vision   24: 16 + 8, of 2 images" in lines


def test_tokens_that_did_not_come_back_are_not_counted(found: Inspection) -> None:
    lines = page_lines(with_tokens(found, n_output=None), width=80)

    assert "  decode   7 steps after the prompt's, tokens that were not returned (greedy)" in lines


def test_a_method_of_features_that_a_forward_calls_is_said_to_be_inside(found: Inspection) -> None:
    row = CallRow(
        what="encode", phase="vision", n_calls=1, within="", inside=("tower", "projector")
    )

    lines = page_lines(replace(found, calls=(row,)), width=100)

    assert "  vision  once      encode(), which runs tower, projector, inside the model" in lines
