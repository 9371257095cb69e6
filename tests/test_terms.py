from __future__ import annotations

from datetime import date

import pytest

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.options import marker_layer, merge_options
from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import Case, GateMode, GateTerms, Place, Span
from pytest_vlmlatency.terms import check_names, gate_terms
from tests.cases import a_call, a_case


def test_a_plain_target_is_that_of_every_phase_but_those_that_are_named() -> None:
    terms = merge_options({"target": {"decode": 0.02}}, {"target": 0.05}).terms

    assert [terms.target_ratio(phase) for phase in ("decode", "vision")] == [0.02, 0.05]


def test_a_phase_without_a_target_is_left_to_the_gates_rule() -> None:
    assert merge_options({"target": {"decode": 0.02}}).terms.target_ratio("vision") is None


def test_budgets_are_for_any_device_or_for_those_that_are_named() -> None:
    terms = gate_terms(budget_ms={"ttft": 250, "decode": {"NVIDIA H200": 90}})

    assert terms.budgets_ms == {"ttft": {"*": 250.0}, "decode": {"NVIDIA H200": 90.0}}


def test_budgets_of_two_layers_join_by_quantity() -> None:
    terms = merge_options({"budget_ms": {"ttft": 250}}, {"budget_ms": {"ttft": 1, "decode": 9}})

    assert terms.terms.budgets_ms == {"ttft": {"*": 250.0}, "decode": {"*": 9.0}}


def test_a_quarantine_has_its_reason_and_a_last_day_that_still_belongs_to_it() -> None:
    terms = gate_terms(gate="report", why="noisy since the driver", until="2026-12-31")

    assert (terms.mode, terms.why) == (GateMode.REPORT, "noisy since the driver")
    assert [terms.is_past(date(2026, 12, 31)), terms.is_past(date(2027, 1, 1))] == [False, True]


def test_a_date_is_as_good_as_its_text() -> None:
    assert gate_terms(gate="report", why="w", until=date(2026, 12, 31)).until == "2026-12-31"


def test_a_stronger_layer_ends_a_quarantine_with_its_reason() -> None:
    quarantine = {"gate": "report", "why": "noisy", "until": "2026-12-31"}

    terms = merge_options({"gate": "fail"}, quarantine).terms

    assert (terms.mode, terms.why, terms.until) == (GateMode.FAIL, None, None)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"target": 3},
            "the target of '*' is 3; expected a change as a ratio between 0 and 1, where 0.03 is "
            "3 %, of at least 1e-06",
        ),
        ({"target": {"decode": "2 %"}}, "target is '2 %'; expected a number"),
        ({"target": {3: 0.1}}, "target has the key 3; expected a name, such as 'decode'"),
        ({"target": {"decode": None}}, "target holds None; expected a number, or no such key"),
        (
            {"budget_ms": 250},
            "budget_ms is 250; expected a mapping such as {'ttft': 250}, or {'ttft': {'NVIDIA "
            "H200': 250}} for one device",
        ),
        (
            {"budget_ms": {"ttft": 0}},
            "the budget of 'ttft' on '*' is 0 ms; expected more than 0 ms",
        ),
        (
            {"alpha": 0.5},
            "alpha is 0.5; expected the share of false alarms for one comparison, above 0 and at "
            "most 0.1",
        ),
        (
            {"min_effect": -0.1},
            "min_effect is -0.1; expected a change as a ratio from 0 to 1, where 0.01 is 1 %",
        ),
        ({"gate": "ignore"}, "gate is 'ignore'; expected one of 'fail', 'report', 'off'"),
        (
            {"gate": "report", "why": "noisy"},
            "gate='report' is a quarantine: it needs why='...', the reason, and "
            "until='2026-12-31', its last day, so that it ends",
        ),
        (
            {"gate": "report", "why": "noisy", "until": "soon"},
            "until is 'soon'; expected a date such as '2026-12-31'",
        ),
        (
            {"gate": "report", "why": "noisy", "until": 3},
            "until is 3; expected a date such as '2026-12-31'",
        ),
        (
            {"why": "noisy"},
            "why= and until= explain a quarantine and were given with gate='fail'; write "
            "gate='report' beside them, or leave them out",
        ),
    ],
)
def test_terms_that_mean_nothing_are_refused_by_name(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        marker_layer((), keys)

    assert str(caught.value) == f"@pytest.mark.vlm_latency: {problem}"


def test_a_phase_that_a_case_cannot_have_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageProblem) as caught:
        check_names(gate_terms(target={"decoder": 0.02}), a_case())

    assert str(caught.value) == (
        "target names 'decoder', which this case does not have; did you mean 'decode'? It has "
        "vision, text_encoder, prefill, decode, total."
    )


def test_a_budget_may_bound_a_span_of_the_users_own_wherever_it_lies() -> None:
    check_names(gate_terms(budget_ms={"preprocess": 20}), case_with_a_span(Place.OUTSIDE))


def test_a_span_that_is_a_part_of_the_total_may_have_a_target() -> None:
    check_names(gate_terms(target={"preprocess": 0.1}), case_with_a_span(Place.PART))


def test_a_span_that_is_no_part_of_the_total_may_have_none() -> None:
    with pytest.raises(UsageProblem, match=r"no part of generate\(\)'s total \(outside\)"):
        check_names(gate_terms(target={"preprocess": 0.1}), case_with_a_span(Place.OUTSIDE))


def test_what_no_phase_accounts_for_has_no_target_of_its_own() -> None:
    with pytest.raises(UsageProblem, match="its change is shown and not judged; judge 'total'"):
        check_names(gate_terms(target={"other": 0.1}), a_case())


def test_terms_survive_a_trip_through_their_plain_form() -> None:
    terms = gate_terms(
        target={"decode": 0.02}, budget_ms={"ttft": 250}, gate="report", why="w", until="2026-12-31"
    )

    assert from_plain(GateTerms, to_plain(terms)) == terms


def case_with_a_span(place: Place) -> Case:
    span = Span(name="preprocess", start_ms=0.0, measures={"wall_ms": 5.0}, place=place)
    return a_case([a_call(extra_spans=[span], cpu_share=None)])
