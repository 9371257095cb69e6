"""What the evidence of the whole way claims can be false."""

from dataclasses import replace

import pytest

from benchmarks.end_to_end import Outcome
from benchmarks.evidence.end_to_end_real import Figures, Trial, judge
from pytest_vlmlatency.plain import from_plain, to_plain

KEPT = Outcome(
    config={"tier": "low", "top_k": 4, "num_active_blocks": 8},
    p50_ms=40.0,
    p95_ms=50.0,
    measured_ms=41.0,
    n_within=14,
    n_calls=15,
)
GOOD = Figures(trials=(Trial(budget_ms=50, outcome=KEPT), Trial(budget_ms=80, outcome=KEPT)))


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (KEPT, "2 of 2; 28 of 30 calls within their own."),
        (replace(KEPT, measured_ms=51.0, n_within=3), "1 of 2; 17 of 30 calls within their own."),
        (None, "1 of 2; 14 of 15 calls within their own."),
    ],
)
def test_every_choice_must_keep_its_95th_percentile(outcome: Outcome | None, seen: str) -> None:
    trials = (GOOD.trials[0], replace(GOOD.trials[1], outcome=outcome))

    (claim,) = judge(Figures(trials=trials))

    assert (claim.holds, claim.seen) == (outcome is KEPT, seen)


def test_trials_come_back_from_their_file_as_they_were() -> None:
    assert from_plain(Figures, to_plain(GOOD)) == GOOD
