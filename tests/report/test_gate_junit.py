"""What of a gate's report is a test case in JUnit XML."""

from __future__ import annotations

from dataclasses import replace

from pytest_vlmlatency.report.gate_ci import JunitCase, junit_cases
from tests.gate_reports import (
    FILE,
    OVER_BUDGET,
    QUARANTINED,
    SAME,
    SLOWER,
    UNAPPLIED,
    UNDECIDED,
    a_report,
)


def test_each_phase_that_is_slower_is_a_test_case_named_by_it() -> None:
    assert junit_cases(a_report([SAME, SLOWER, QUARANTINED])) == (
        JunitCase(
            nodeid=f"{FILE}::test_caption:vision[512]",
            test=f"{FILE}::test_caption[512]",
            text="vision is slower: +48.1 % [46.0, 50.2], 5 pairs\n"
            "119.96 ms, 81.00 ms before\n"
            "total +41 ms: vision +39, prefill +1, decode +1",
        ),
        JunitCase(
            nodeid=f"{FILE}::test_caption:total[512]",
            test=f"{FILE}::test_caption[512]",
            text="total is slower: +9.7 % [9.1, 10.3], 5 pairs\n"
            "464.14 ms, 423.10 ms before\n"
            "total +41 ms: vision +39, prefill +1, decode +1",
        ),
    )


def test_a_quantity_over_its_budget_is_a_test_case() -> None:
    (case,) = junit_cases(a_report([OVER_BUDGET]))

    assert case.nodeid == f"{FILE}::test_page:ttft-budget"
    assert case.text == "ttft 260.3 ms, over its budget of 250 ms"


def test_configurations_of_one_test_have_names_of_their_own() -> None:
    test = f"{FILE}::test_knobs[512]"
    configured = replace(SLOWER, test=test, case_id=f"{test}{{tier=low}}")

    assert junit_cases(a_report([configured]))[0].nodeid == (
        f"{FILE}::test_knobs:vision[512{{tier=low}}]"
    )


def test_the_undecided_fail_only_where_they_fail_the_gate() -> None:
    assert junit_cases(a_report([UNDECIDED])) == ()
    (case,) = junit_cases(a_report([UNDECIDED], is_strict=True))

    assert case.nodeid == f"{FILE}::test_chat:decode"
    assert case.text == "decode is undecided: +2.6 % [-0.2, 5.4], 27 pairs"
    assert not case.is_error


def test_what_is_not_applied_is_an_error() -> None:
    report = a_report([UNAPPLIED], not_applied_because=("no run", "and no commit"))

    assert junit_cases(report) == (
        JunitCase(
            nodeid=f"{FILE}::test_lost:gate",
            test=f"{FILE}::test_lost",
            text="its worker died",
            is_error=True,
        ),
        JunitCase(
            nodeid="vlm-gate::applied", test=None, text="no run\nand no commit", is_error=True
        ),
    )
