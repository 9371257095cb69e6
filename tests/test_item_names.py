"""What a test is called in every process, whatever one process adds to its name."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vlmlatency.case_ids import has_address, id_of, name_in_file
from tests.projects import project

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
