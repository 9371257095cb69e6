"""Names of tests that are the same in every process and tell cases apart, and tables of them."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vlmlatency.case_ids import has_address, id_of, name_in_file, told_apart
from pytest_vlmlatency.records import CaseState, Trend, TrendSeries
from pytest_vlmlatency.report.gate_ci import SourceLine, annotation_lines, junit_cases
from pytest_vlmlatency.report.gate_markdown import gate_markdown
from pytest_vlmlatency.report.gate_terminal import gate_lines
from pytest_vlmlatency.report.terminal import summary_lines
from pytest_vlmlatency.report.trend_text import trend_lines
from tests.cases import a_case
from tests.gate_reports import a_report, a_verdict
from tests.projects import project

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


OF_OBJECTS = """
    import pytest

    class Model:
        pass

    class TestCaption:
        @pytest.mark.parametrize("size", ["low", "0x1F"])
        @pytest.mark.parametrize("model", [Model(), Model()], ids=repr)
        def test_page(self, model, size):
            pass
    """


def test_addresses_of_objects_become_their_place_among_the_parameters(
    pytester: pytest.Pytester,
) -> None:
    items = pytester.getitems(OF_OBJECTS)
    again = pytester.getitems(OF_OBJECTS)

    names = [name_in_file(item) for item in items]
    assert all(" at 0x" not in name for name in names)
    assert len(set(names)) == 4
    assert names == [name_in_file(item) for item in again]
    assert names[0].startswith("TestCaption::test_page[<")
    assert names[0].endswith(".Model object #0>-low]")


def test_a_hexadecimal_parameter_is_no_address(pytester: pytest.Pytester) -> None:
    (item,) = pytester.getitems(
        "import pytest\n\n@pytest.mark.parametrize('flags', ['0x1F'])\ndef test_x(flags): pass\n"
    )

    assert not has_address(item)
    assert name_in_file(item) == "test_x[0x1F]"


def test_the_group_of_a_distribution_is_no_part_of_an_id(pytester: pytest.Pytester) -> None:
    """pytest-xdist's loadgroup adds it to the node's id, in workers alone."""
    (item,) = pytester.getitems("class TestCaption:\n    def test_page(self): pass\n")
    grouped: Any = SimpleNamespace(
        name=item.name, parent=item.parent, path=item.path, nodeid=f"{item.nodeid}@gpu"
    )

    assert id_of(grouped, pytester.path) == id_of(item, pytester.path)
    assert id_of(grouped, pytester.path).endswith(".py::TestCaption::test_page")


NAMED_BY_ADDRESS = """\
    @pytest.mark.parametrize("one", [Knob(1), Knob(2)], ids=repr)
    def test_caption(vlm_latency, one):
        vlm_latency(model.generate)
    """


def test_an_address_in_an_id_is_warned_of_and_in_no_cases_id(pytester: pytest.Pytester) -> None:
    project(pytester, NAMED_BY_ADDRESS)

    result = pytester.runpytest_inprocess("--vlm-json=run.json", "-W", "default")

    result.assert_outcomes(passed=2, warnings=1)
    cases = json.loads((pytester.path / "run.json").read_text())["cases"]
    ids = [f"test_caption[<test_x.Knob object #{index}>]" for index in range(2)]
    assert [case["name"] for case in cases] == ids
    assert [case["test"] for case in cases] == [f"test_x.py::{name}" for name in ids]
    result.stdout.fnmatch_lines(["*test_x.py::test_caption?<test_x.Knob object at 0x*"])


def test_an_address_in_an_id_is_a_usage_error_where_warnings_are_errors(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, NAMED_BY_ADDRESS)

    result = pytester.runpytest_inprocess("-W", "error::pytest.PytestWarning")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *, and 1 more: the id holds the address of an object*"])
