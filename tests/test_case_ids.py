"""Names that tell cases apart, and the tables that show them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.records import CaseState, Trend, TrendSeries
from pytest_vlmlatency.report.gate_annotations import SourceLine, annotation_lines
from pytest_vlmlatency.report.gate_junit import junit_cases
from pytest_vlmlatency.report.gate_markdown import gate_markdown
from pytest_vlmlatency.report.gate_terminal import gate_lines
from pytest_vlmlatency.report.terminal import summary_lines
from pytest_vlmlatency.report.trend_text import trend_lines
from tests.cases import a_case
from tests.gate_reports import a_report, a_verdict

ONE, TWO = "one/tests/test_x.py::test_page", "two/tests/test_x.py::test_page"
SHOWN = {"one/tests/test_x.py::test_page", "two/tests/test_x.py::test_page"}


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ([ONE, TWO], [ONE, TWO]),
        (["a/x.py::test_page", "a/y.py::test_page"], ["x.py::test_page", "y.py::test_page"]),
        (["x.py::TestA::test_page", "x.py::TestB::test_page"], ["TestA::test_page"]),
        (["x.py::test_page", "x.py::TestB::test_page"], ["x.py::test_page", "TestB::test_page"]),
        (["x.py::test_page", "one/x.py::test_page"], ["x.py::test_page", "one/x.py::test_page"]),
        (["x.py::test_page", "x.py::test_chat"], ["test_page", "test_chat"]),
    ],
)
def test_a_name_of_several_cases_gets_as_much_of_its_place_as_tells_them_apart(
    ids: list[str], shown: list[str]
) -> None:
    names = told_apart((case_id, case_id.rpartition("::")[2]) for case_id in ids)

    assert names[: len(shown)] == shown


def test_parameters_and_settings_are_no_part_of_a_place() -> None:
    ids = ("one/x.py::test[a/b::c]{k=d/e}", "two/x.py::test[a/b::c]{k=d/e}")

    names = told_apart((case_id, "test[a/b::c]{d/e}") for case_id in ids)

    assert set(names) == {f"{top}/x.py::test[a/b::c]{{d/e}}" for top in ("one", "two")}


def test_settings_of_other_names_with_the_same_values_are_told_apart_by_their_ids() -> None:
    ids = ("x.py::test{top_k=4}", "x.py::test{blocks=4}")

    assert told_apart((case_id, "test{4}") for case_id in ids) == list(ids)


@pytest.mark.parametrize("width", [None, 80, 40])
def test_the_table_tells_tests_of_two_folders_apart(width: int | None) -> None:
    cases = [a_case(name="test_page", id=case_id, test=case_id) for case_id in (ONE, TWO)]
    alone = [replace(case, notes=(f"of {case.id[:3]}",)) for case in cases]

    lines = summary_lines(alone, width=width)

    first, second = lines[2].split()[0], lines[3].split()[0]
    assert first != second
    assert "Note on one/tests/test_x.py::test_page" in " ".join(lines) or width is not None


def test_every_form_of_a_gate_tells_tests_of_two_folders_apart() -> None:
    cases = [
        a_verdict(
            "test_page",
            state=CaseState.NOT_APPLIED,
            reason=f"why {case_id}",
            case_id=case_id,
            test=case_id,
            notes=(f"of {case_id[:3]}",),
        )
        for case_id in (ONE, TWO)
    ]
    report = a_report(cases)
    sources = {case_id: SourceLine(case_id.partition("::")[0], 1) for case_id in (ONE, TWO)}

    terminal = "\n".join(line.text for line in gate_lines(report, width=None))
    annotations = annotation_lines(report, sources)
    junit = {case.nodeid for case in junit_cases(report)}

    assert all(f"\n{name}\n" in terminal and f"Note on {name}:" in terminal for name in SHOWN)
    assert all(f"- `{name}`: why" in gate_markdown(report) for name in SHOWN)
    assert [line.partition("title=")[2].partition("%3A%3A")[0] for line in annotations] == [
        "one/tests/test_x.py",
        "two/tests/test_x.py",
    ]
    assert junit == {f"{case_id}:gate" for case_id in (ONE, TWO)}


def test_a_trend_tells_tests_of_two_folders_apart() -> None:
    series = tuple(
        TrendSeries(
            case_id=case_id,
            case_name="test_page",
            phase="total",
            measure="cpu_ms",
            points=(),
            reason="too few",
        )
        for case_id in (ONE, TWO)
    )
    trend = Trend(
        history=".vlm_latency",
        machine="0",
        described="here",
        n_runs=1,
        n_commits=1,
        series=series,
    )

    lines = {line.text for line in trend_lines(trend, width=None, has_all=True)}

    assert {f"{name} total: too few" for name in SHOWN} <= lines
