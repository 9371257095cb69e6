"""What is claimed of the estimators can be false: each claim fails on figures that should."""

from dataclasses import replace

import pytest

from benchmarks.evidence._estimator_methods import DEFAULT
from benchmarks.evidence.estimator_accuracy import (
    BOUNDS,
    FASTEST,
    RATIOS,
    Figures,
    Row,
    count_violations,
    judge_figures,
    splits_of,
)
from pytest_vlmlatency.estimator import RooflineEstimator
from pytest_vlmlatency.estimator.columns import CONFIGURATION, table_of
from tests.generated_records import LAUNCH_BOUND, generate_records


def a_row(machine: str, split: str, error: float = 0.02) -> Row:
    """Return the default's row where it is as good as perfect."""
    return Row(
        machine=machine,
        split=split,
        method=DEFAULT,
        errors=(error, 0.02),
        perfect=(0.02, 0.02),
        training_s=1.0,
    )


GOOD = Figures(
    rows=tuple(a_row(machine, split) for machine, split in RATIOS),
    noise_alone=tuple(a_row("launch-bound", split) for split in BOUNDS),
    coverage={"launch-bound T_prefill_total": 0.95},
    n_dead=0,
    n_violations=0,
    seconds={what: 0.9 * bound for what, bound in FASTEST.items()},
)


def failed(figures: Figures) -> list[str]:
    """Return the claims that do not hold."""
    return [claim.text for claim in judge_figures(figures) if not claim.holds]


def test_good_figures_hold_every_claim() -> None:
    assert failed(GOOD) == []


@pytest.mark.parametrize(("index", "bound"), list(enumerate(RATIOS.values())))
def test_an_error_above_its_ratio_fails_its_own_claim(index: int, bound: float) -> None:
    rows = list(GOOD.rows)
    rows[index] = replace(rows[index], errors=(0.02, 0.02 * bound * 1.01))

    (text,) = failed(replace(GOOD, rows=tuple(rows)))

    assert f"{rows[index].machine} machine, {rows[index].split}" in text


@pytest.mark.parametrize(("index", "bounds"), list(enumerate(BOUNDS.values())))
def test_an_error_above_its_bound_fails_its_own_claim(
    index: int, bounds: tuple[float, float]
) -> None:
    rows = list(GOOD.noise_alone)
    rows[index] = replace(rows[index], errors=(bounds[0] * 1.01, 0.02))

    (text,) = failed(replace(GOOD, noise_alone=tuple(rows)))

    assert rows[index].split in text


@pytest.mark.parametrize("share", [0.92, 0.98])
def test_a_quantile_that_covers_another_share_fails(share: float) -> None:
    (text,) = failed(replace(GOOD, coverage={**GOOD.coverage, "other": share}))

    assert text.startswith("P95 holds")


def test_one_violation_fails() -> None:
    (text,) = failed(replace(GOOD, n_violations=1))

    assert text.startswith("No larger request")


@pytest.mark.parametrize("what", list(GOOD.seconds))
def test_what_takes_too_long_fails(what: str) -> None:
    (text,) = failed(replace(GOOD, seconds=GOOD.seconds | {what: 10.0}))

    assert what in text


def test_each_split_judges_what_it_was_not_trained_on() -> None:
    table = table_of(generate_records(LAUNCH_BOUND, n_of_configuration=18))
    splits = splits_of(table)

    known, unseen = splits["unseen configurations"]
    below, top = splits["extrapolation"]

    assert len(splits["50 records"][0]) == 50
    assert not set(known.configuration) & set(unseen.configuration)
    assert all(below.columns[name].max() < top.columns[name].max() for name in CONFIGURATION)
    assert len(below) + len(top) == len(table)


def test_a_violation_of_order_is_counted() -> None:
    class Falling(RooflineEstimator):
        def predict_batch(self, columns):  # type: ignore[no-untyped-def]
            said = super().predict_batch(columns)
            return {target: -ms for target, ms in said.items()}

    records = generate_records(LAUNCH_BOUND, n_of_configuration=9)

    assert count_violations(RooflineEstimator().fit(records)) == 0
    assert count_violations(Falling().fit(records)) > 1000
