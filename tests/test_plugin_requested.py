"""Tests that come by the fixture while they run, and tests that are run more than once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.paired.observer import may_measure
from tests.projects import TWICE, in_subprocess, project, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

COUNTING = """\
MEASURED = []


@pytest.fixture(scope="session")
def _vlm_engine():
    from dataclasses import replace

    from tests.fake_engine import FakeEngine

    class Counting(FakeEngine):
        def _measured_case(self, *given):
            MEASURED.append(given)
            return replace(super()._measured_case(*given), notes=(f"nr. {len(MEASURED)}",))

    return Counting()
"""
"""An engine whose cases say the how many-th of the process they are."""

ON_REQUEST = """\
def test_caption(request):
    request.getfixturevalue("vlm_latency")(model.generate)
"""


def cases_of(pytester: pytest.Pytester) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((pytester.path / "run.json").read_text())["cases"]
    return cases


def names(cases: Iterable[dict[str, Any]]) -> list[str]:
    return [case["name"] for case in cases]


def test_a_fixture_that_a_test_requests_while_it_runs_is_measured_and_reported(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, ON_REQUEST)

    result = pytester.runpytest_inprocess("--vlm-json=run.json")

    result.assert_outcomes(passed=1)
    assert names(cases_of(pytester)) == ["test_caption"]
    assert "vlm latency: 1 case on cpu" in table_of(result)[0]


def test_a_plain_run_without_any_file_shows_what_was_requested_while_it_ran(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, ON_REQUEST)

    result = pytester.runpytest_inprocess()

    assert "vlm latency: 1 case on cpu" in table_of(result)[0]


def test_fixtures_and_classes_that_hand_the_fixture_on_are_measured(
    pytester: pytest.Pytester,
) -> None:
    project(
        pytester,
        """\
        import unittest

        @pytest.fixture
        def lazily(request):
            return lambda: request.getfixturevalue("vlm_latency")(model.generate)

        @pytest.fixture
        def measured(request):
            return request.getfixturevalue("vlm_latency")(model.generate, answer=7)

        def test_lazily(lazily):
            lazily()

        def test_set_up(measured):
            assert measured == 7

        class TestOwn:
            @pytest.fixture(autouse=True)
            def _own(self, vlm_latency):
                self.measure = vlm_latency

            def test_class(self):
                self.measure(model.generate)

        class TestUnit(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _own(self, request):
                self.request = request

            def test_unit(self):
                self.request.getfixturevalue("vlm_latency")(model.generate)
        """,
    )

    pytester.runpytest_inprocess("--vlm-json=run.json").assert_outcomes(passed=4)

    assert names(cases_of(pytester)) == ["test_lazily", "test_set_up", "test_class", "test_unit"]


def test_a_fixture_that_was_requested_and_never_called_fails_the_test(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_caption(request):\n    request.getfixturevalue('vlm_latency')\n")

    pytester.runpytest_inprocess().assert_outcomes(failed=1)


def test_what_is_requested_while_a_test_runs_is_checked_as_at_collection(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, ON_REQUEST)

    result = pytester.runpytest_inprocess("--vlm-device=nonsense")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*--vlm-device nonsense: torch knows no such kind of device*"])


def test_a_worker_delivers_what_was_requested_while_its_test_ran(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester, ON_REQUEST)

    in_subprocess(pytester, monkeypatch, "-n1", "--vlm-json=run.json").assert_outcomes(passed=1)

    assert names(cases_of(pytester)) == ["test_caption"]


def test_of_two_attempts_at_a_test_the_last_is_kept(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester, conftest=COUNTING + TWICE)

    # A process of its own: pytest-benchmark 5.2 leaves its JSON file open.
    options = ("--vlm-json=run.json", "--benchmark-json=benchmark.json")
    result = in_subprocess(pytester, monkeypatch, *options)

    assert [case["notes"] for case in cases_of(pytester)] == [["nr. 2"]]
    assert "vlm latency: 1 case on cpu" in table_of(result)[0]
    entries = json.loads((pytester.path / "benchmark.json").read_text())["benchmarks"]
    assert len({entry["fullname"] for entry in entries}) == len(entries)


def test_an_attempt_that_measured_is_kept_where_the_next_fails_before_it_measures(
    pytester: pytest.Pytester,
) -> None:
    project(
        pytester,
        """\
        attempts = []

        def test_caption(vlm_latency):
            attempts.append(1)
            assert len(attempts) < 2
            vlm_latency(model.generate)
        """,
        conftest=COUNTING + TWICE,
    )

    pytester.runpytest_inprocess("--vlm-json=run.json")

    assert [case["notes"] for case in cases_of(pytester)] == [["nr. 1"]]


def test_a_test_that_requests_the_fixture_in_any_way_may_measure(
    pytester: pytest.Pytester,
) -> None:
    items, _recorder = pytester.inline_genitems(
        pytester.makepyfile(
            """\
            import pytest

            @pytest.fixture
            def lazily(request):
                return lambda: request.getfixturevalue("vlm_latency")

            def test_argument(vlm_latency): pass
            def test_request(request): request.getfixturevalue("vlm_latency")
            def test_by_a_fixture(lazily): pass
            @pytest.mark.vlm_latency
            def test_marked(): pass
            def test_other(request): request.getfixturevalue("tmp_path")
            """
        )
    )

    assert [item.name for item in items if may_measure(item)] == [
        "test_argument",
        "test_request",
        "test_by_a_fixture",
        "test_marked",
    ]
