"""The rule: what its constants may be, and rules for other targets."""

import pytest

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.stats import GateRule, pool_noise
from tests.stats.builders import runs


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_ratio": 0.0},
        {"target_ratio": 3},
        {"alpha": float("nan")},
        {"looks": ()},
        {"looks": (5, 3)},
        {"looks": (2, 5)},
        {"min_rounds": 1},
        {"n_warmup_rounds": -1},
        {"fallback_df": 0.0},
        {"min_effect_ratio": 0.025},
    ],
)
def test_a_constant_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageProblem, match=next(iter(wrong))):
        GateRule(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_the_looks_together_spend_alpha_and_no_more() -> None:
    rule = GateRule()

    assert sum(rule.look_alpha(look) for look in rule.looks) == pytest.approx(rule.alpha)


def test_a_smaller_target_gets_more_pairs_and_a_larger_one_no_fewer_looks() -> None:
    assert GateRule.for_target(0.02).looks[-1] == 61
    assert GateRule.for_target(0.03) == GateRule()
    assert GateRule.for_target(0.05).looks == GateRule().looks
    with pytest.raises(UsageProblem, match="a change of more than 0"):
        GateRule.for_target(3)


def test_pooled_noise_is_that_of_the_histories() -> None:
    noise = pool_noise([runs(10, noise=(0.03, 0.001), seed=seed) for seed in range(100)])

    assert noise.ratio == pytest.approx(0.03, rel=0.05)
    assert noise.df == GateRule().max_prior_df


def test_too_few_histories_leave_the_fallback() -> None:
    noise = pool_noise([runs(10, seed=1), runs(10, seed=2), runs(1), []])

    assert (noise.ratio, noise.df) == (0.01, 4)


def test_histories_that_never_vary_have_a_noise_all_the_same() -> None:
    assert pool_noise([[[5.0] * 20] * 10] * 4).ratio >= GateRule().min_noise_ratio
