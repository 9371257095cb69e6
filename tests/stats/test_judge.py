"""One comparison: what is slower, faster, the same, undecided, and on what that rests."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.stats import (
    GateRule,
    Judgement,
    Suspicion,
    Verdict,
    judge,
    look,
    pool_noise,
    screen,
)
from tests.stats.builders import NOISE, Rounds, Supply, pairs, runs, scaled

QUIET = (0.002, 0.002)
CALM = (1e-4, 1e-4)
LOUD = (0.1, 0.01)


def a_run(*, change: float = 0.0, noise: tuple[float, float] = NOISE) -> Rounds:
    return runs(1, change=change, noise=noise, seed=9)[0]


def test_an_unchanged_run_on_a_quiet_machine_is_the_same_without_fresh_pairs() -> None:
    supply = Supply([])

    judgement = judge(runs(10, noise=QUIET), a_run(noise=QUIET), pairs=supply)

    assert judgement.verdict is Verdict.SAME
    assert (judgement.n_pairs, judgement.n_runs, supply.asked) == (0, 10, [])


def test_what_the_screen_suspects_is_slower_once_fresh_pairs_show_it() -> None:
    judgement = judge(runs(10), a_run(change=0.05), pairs=Supply(pairs(27, change=0.05)))

    assert judgement.verdict is Verdict.SLOWER
    assert judgement.low_ratio is not None
    assert judgement.high_ratio is not None
    assert 1 < judgement.low_ratio < 1.05 < judgement.high_ratio
    assert judgement.n_pairs in GateRule().looks


def test_a_run_that_only_chance_made_slow_is_found_the_same_by_fresh_pairs() -> None:
    judgement = judge(runs(10), a_run(change=0.03), pairs=Supply(pairs(27)))

    assert judgement.verdict is Verdict.SAME
    assert judgement.n_pairs >= 3


def test_pairs_that_show_less_than_the_least_effect_are_never_slower() -> None:
    judgement = judge(
        runs(10, noise=CALM),
        a_run(change=0.05, noise=CALM),
        pairs=Supply(pairs(27, change=0.009, noise=CALM)),
    )

    assert judgement.verdict is Verdict.SAME
    assert judgement.change_ratio == pytest.approx(1.009, abs=1e-3)


def test_a_change_between_least_effect_and_target_is_slower_where_it_is_certain() -> None:
    judgement = judge(
        runs(10, noise=CALM),
        a_run(change=0.02, noise=CALM),
        pairs=Supply(pairs(27, change=0.02, noise=CALM)),
    )

    assert judgement.verdict is Verdict.SLOWER
    assert judgement.change_ratio == pytest.approx(1.02, abs=1e-3)


def test_no_more_pairs_are_asked_for_once_it_is_decided() -> None:
    supply = Supply(pairs(27, change=0.2))

    judgement = judge(runs(10), a_run(change=0.2), pairs=supply)

    assert judgement.n_pairs == supply.asked[-1] == 3
    assert supply.asked == [3]


def test_noise_that_hides_the_change_is_undecided_after_the_last_look() -> None:
    supply = Supply(pairs(27, noise=LOUD))

    judgement = judge(runs(10, noise=LOUD), a_run(noise=LOUD), pairs=supply)

    assert judgement.verdict is Verdict.UNDECIDED
    assert supply.asked == list(GateRule().looks)
    assert judgement.n_pairs == 27
    assert judgement.reason == "27 fresh pairs neither rule out a change of 3.0% nor show one"


def test_when_the_pairs_run_out_it_is_decided_on_what_there_is() -> None:
    few = judge(runs(10), a_run(change=0.2), pairs=Supply(pairs(4, change=0.2)))
    undecided = judge(runs(10), a_run(change=0.03), pairs=Supply(pairs(4, change=0.03)))

    assert (few.verdict, few.n_pairs) == (Verdict.SLOWER, 3)
    assert (undecided.verdict, undecided.n_pairs) == (Verdict.UNDECIDED, 4)


def test_fewer_pairs_than_a_first_look_needs_leave_the_judgement_to_the_history() -> None:
    judgement = judge(runs(10), a_run(change=0.03), pairs=Supply(pairs(2, change=0.03)))

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.n_pairs == 0
    assert judgement.reason == (
        "probably slower by 10 runs: p 0.0008, and slower takes less than 0.0001, and "
        "2 fresh pairs were measured, of the 3 that a first look needs"
    )


def test_without_fresh_pairs_only_what_is_nearly_certain_is_slower() -> None:
    by_3_percent = judge(runs(10), a_run(change=0.03))
    by_10_percent = judge(runs(10), a_run(change=0.1))

    assert by_3_percent.verdict is Verdict.UNDECIDED
    assert by_10_percent.verdict is Verdict.SLOWER
    assert by_10_percent.n_pairs == 0


def test_a_disturbed_run_is_never_slower_by_the_history_alone() -> None:
    judgement = judge(runs(10), a_run(change=0.1), is_disturbed=True)

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.reason == (
        "slower by 10 runs, but throttling or contention was seen, and no fresh pairs were measured"
    )


def test_fresh_pairs_decide_a_disturbed_run() -> None:
    judgement = judge(
        runs(10), a_run(change=0.1), pairs=Supply(pairs(27, change=0.1)), is_disturbed=True
    )

    assert judgement.verdict is Verdict.SLOWER


def test_two_runs_of_history_show_no_change_by_themselves() -> None:
    judgement = judge(runs(2), a_run(change=0.3))

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.reason == (
        "slower by 2 runs, which do not say how much runs differ (3 are needed), and no fresh "
        "pairs were measured"
    )


def test_without_a_baseline_fresh_pairs_alone_decide() -> None:
    slower = judge([], a_run(change=0.05), pairs=Supply(pairs(27, change=0.05)))
    same = judge([], a_run(noise=QUIET), pairs=Supply(pairs(27, noise=QUIET)))

    assert (slower.verdict, slower.n_runs) == (Verdict.SLOWER, 0)
    assert same.verdict is Verdict.SAME


def test_without_a_baseline_and_without_pairs_nothing_can_be_said() -> None:
    judgement = judge([], a_run())

    assert judgement.verdict is Verdict.UNDECIDED
    assert (judgement.change_ratio, judgement.low_ratio, judgement.high_ratio) == (None,) * 3
    assert judgement.reason == "no baseline run, and no fresh pairs were measured"


@pytest.mark.parametrize("n_rounds", [0, 1, 4])
def test_fewer_than_three_kept_rounds_are_undecided(n_rounds: int) -> None:
    judgement = judge(runs(10), a_run()[:n_rounds], pairs=Supply(pairs(27)))

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.change_ratio is None
    assert f"of {n_rounds} rounds are left after 2 of warm-up" in judgement.reason


def test_a_baseline_run_without_a_value_is_left_out() -> None:
    history = [*runs(10), [], [1.0, 2.0], [0.0] * 9]

    judgement = judge(history, a_run())

    assert judgement == judge(runs(10), a_run())


def test_a_history_of_which_no_run_has_a_value_says_so() -> None:
    judgement = judge([[], [1.0]], a_run())

    assert judgement.reason == (
        "none of 2 baseline runs has a value, and no fresh pairs were measured"
    )


def test_a_pair_in_which_a_run_has_no_value_is_left_out() -> None:
    measured = pairs(27, change=0.2)
    measured[0] = ([], measured[0][1])

    judgement = judge(runs(10), a_run(change=0.2), pairs=Supply(measured))

    assert (judgement.verdict, judgement.n_pairs) == (Verdict.SLOWER, 4)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_a_time_that_cannot_be_is_an_error(wrong: float) -> None:
    with pytest.raises(InvalidMeasurement, match="round 3 of 20 took"):
        judge(runs(10), [*a_run()[:3], wrong, *a_run()[4:]])
    with pytest.raises(InvalidMeasurement, match="round 0 of 1 took"):
        judge([[wrong]], a_run())


def test_a_phase_that_took_no_time_in_a_round_has_no_value() -> None:
    judgement = judge(runs(10), [*a_run()[:-1], 0.0])

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.reason == "the run has no value: 1 of 18 rounds took no time at all"


def verdicts_of(n: int, *, change: float, noise: tuple[float, float], n_runs: int) -> list[Verdict]:
    """Return the verdicts on many comparisons of short histories, each alone, with fresh pairs."""
    return [
        judge(
            runs(n_runs, noise=noise, seed=seed),
            runs(1, change=change, noise=noise, seed=seed + 10_000)[0],
            pairs=Supply(pairs(27, change=change, noise=noise, seed=seed)),
        ).verdict
        for seed in range(n)
    ]


@pytest.mark.parametrize(("n_runs", "between"), [(1, 0.05), (2, 0.05), (1, 0.08)])
def test_five_percent_is_hardly_ever_the_same_where_runs_are_few_and_differ_by_more(
    n_runs: int, between: float
) -> None:
    found = verdicts_of(200, change=0.05, noise=(between, 0.01), n_runs=n_runs)

    assert found.count(Verdict.SAME) <= 2


def test_pairs_that_are_noisier_than_assumed_are_not_taken_for_a_change() -> None:
    found = verdicts_of(300, change=0.0, noise=(0.08, 0.01), n_runs=1)

    assert found.count(Verdict.SLOWER) + found.count(Verdict.FASTER) <= 1


def test_a_quiet_history_lends_louder_pairs_no_certainty() -> None:
    loud = pairs(12, noise=(0.04, 0.01), seed=3)
    quiet = screen(runs(10, noise=CALM), a_run(change=0.05, noise=CALM))
    none = screen([], a_run(change=0.05, noise=CALM))
    assert isinstance(quiet, Suspicion)
    assert isinstance(none, Suspicion)

    with_history, without = (look(seen, loud, is_last=True) for seen in (quiet, none))

    assert with_history is not None
    assert without is not None
    assert width(with_history) >= 0.9 * width(without)


@pytest.mark.parametrize("n_runs", [1, 2])
def test_fewer_runs_than_show_the_noise_are_never_the_same_and_have_no_interval(
    n_runs: int,
) -> None:
    judgement = judge(runs(n_runs, noise=CALM), a_run(noise=CALM))

    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.change_ratio == pytest.approx(1, abs=1e-3)
    assert (judgement.low_ratio, judgement.high_ratio) == (None, None)
    assert "not say how much runs differ" in judgement.reason


def test_one_run_is_the_same_where_longer_histories_show_the_noise() -> None:
    noise = pool_noise([runs(10, noise=QUIET, seed=seed) for seed in range(5)])

    judgement = judge(runs(1, noise=QUIET), a_run(noise=QUIET), noise=noise)

    assert (judgement.verdict, judgement.n_runs) == (Verdict.SAME, 1)


def test_two_runs_of_many_phases_do_not_show_how_much_runs_differ() -> None:
    two = runs(2, noise=CALM)

    judgement = judge(two, a_run(noise=CALM), noise=pool_noise([two] * 4))

    assert judgement.verdict is Verdict.UNDECIDED


def test_a_disturbed_run_is_never_the_same_by_the_history_alone() -> None:
    alone = judge(runs(10, noise=QUIET), a_run(noise=QUIET), is_disturbed=True)
    confirmed = judge(
        runs(10, noise=QUIET),
        a_run(noise=QUIET),
        is_disturbed=True,
        pairs=Supply(pairs(27, noise=QUIET)),
    )

    assert alone.verdict is Verdict.UNDECIDED
    assert "throttling or contention" in alone.reason
    assert (confirmed.verdict, confirmed.n_pairs) == (Verdict.SAME, 3)


def width(judgement: Judgement) -> float:
    assert judgement.low_ratio is not None
    assert judgement.high_ratio is not None
    return judgement.high_ratio - judgement.low_ratio


changes = st.floats(-0.1, 0.1)
noises = st.floats(0.0, 0.05)
seeds = st.integers(0, 10_000)
laws = settings(max_examples=150, deadline=None)


@laws
@given(change=changes, noise=noises, seed=seeds, factor=st.floats(1e-3, 1e3))
def test_scaling_both_sides_leaves_verdict_and_ratios(
    change: float, noise: float, seed: int, factor: float
) -> None:
    history, (candidate,) = (
        runs(6, noise=(noise, 0.01), seed=seed),
        runs(1, change=change, seed=seed),
    )
    fresh = pairs(27, change=change, noise=(noise, 0.01), seed=seed)
    slower_fresh = [
        (before, after)
        for before, after in zip(
            scaled([before for before, _ in fresh], factor),
            scaled([after for _, after in fresh], factor),
            strict=True,
        )
    ]

    here = judge(history, candidate, pairs=Supply(fresh))
    there = judge(
        scaled(history, factor), scaled([candidate], factor)[0], pairs=Supply(slower_fresh)
    )

    assert (here.verdict, here.n_pairs) == (there.verdict, there.n_pairs)
    assert there.change_ratio == pytest.approx(here.change_ratio)
    assert there.low_ratio == pytest.approx(here.low_ratio)
    assert there.high_ratio == pytest.approx(here.high_ratio)


@laws
@given(noise=noises, n_runs=st.integers(0, 20), n_rounds=st.integers(0, 30), seed=seeds)
def test_a_run_compared_with_itself_is_neither_slower_nor_faster(
    noise: float, n_runs: int, n_rounds: int, seed: int
) -> None:
    (run,) = runs(1, noise=(0.01, noise), n_rounds=n_rounds, seed=seed)

    alone = judge([run] * n_runs, run)
    confirmed = judge([run] * n_runs, run, pairs=lambda k: [(run, run)] * k)

    assert {alone.verdict, confirmed.verdict} <= {Verdict.SAME, Verdict.UNDECIDED}


@laws
@given(change=changes, noise=noises, seed=seeds)
def test_swapping_the_sides_of_all_pairs_inverts_the_judgement(
    change: float, noise: float, seed: int
) -> None:
    (candidate,) = runs(1, seed=seed)
    fresh = pairs(27, change=change, noise=(noise, 0.01), seed=seed)
    inverse = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}

    there = judge([], candidate, pairs=Supply(fresh))
    back = judge([], candidate, pairs=Supply([(after, before) for before, after in fresh]))

    assert back.verdict is inverse.get(there.verdict, there.verdict)
    assert back.n_pairs == there.n_pairs
    assert back.change_ratio == pytest.approx(1 / (there.change_ratio or 0))
    assert back.low_ratio == pytest.approx(1 / (there.high_ratio or 0))
    assert back.high_ratio == pytest.approx(1 / (there.low_ratio or 0))


@laws
@given(change=changes, noise=noises, seed=seeds, n_more=st.integers(0, 15))
def test_what_few_pairs_decided_more_pairs_do_not_change(
    change: float, noise: float, seed: int, n_more: int
) -> None:
    history, (candidate,) = runs(6, seed=seed), runs(1, change=change, seed=seed)
    fresh = pairs(27 + n_more, change=change, noise=(noise, 0.01), seed=seed)
    few = judge(history, candidate, pairs=Supply(fresh[:8]))

    many = judge(history, candidate, pairs=Supply(fresh))

    assert many == few or few.verdict is Verdict.UNDECIDED


@laws
@given(change=changes, noise=noises, seed=seeds, n_pairs=st.integers(0, 18))
def test_what_is_slower_is_so_beyond_its_interval_and_by_more_than_the_least_effect(
    change: float, noise: float, seed: int, n_pairs: int
) -> None:
    history, (candidate,) = (
        runs(6, noise=(noise, 0.01), seed=seed),
        runs(1, change=change, seed=seed),
    )

    judgement = judge(
        history,
        candidate,
        pairs=Supply(pairs(n_pairs, change=change, noise=(noise, 0.01), seed=seed)),
    )

    low, middle, high = judgement.low_ratio, judgement.change_ratio, judgement.high_ratio
    assert low is not None
    assert middle is not None
    assert high is not None
    assert low <= middle <= high
    assert (judgement.verdict is not Verdict.SLOWER) or (low > 1 and middle > 1.01)
    assert (judgement.verdict is not Verdict.FASTER) or (high < 1 and middle < 1 / 1.01)


@laws
@given(change=changes, noise=noises, seed=seeds, n_runs=st.integers(0, 12))
def test_judge_is_a_screen_and_then_looks(
    change: float, noise: float, seed: int, n_runs: int
) -> None:
    history = runs(n_runs, noise=(noise, 0.01), seed=seed)
    (candidate,) = runs(1, change=change, noise=(noise, 0.01), seed=seed)
    fresh = pairs(27, change=change, noise=(noise, 0.01), seed=seed)

    seen = screen(history, candidate)
    looks = (
        [look(seen, fresh[:k], is_last=k == GateRule().looks[-1]) for k in GateRule().looks]
        if isinstance(seen, Suspicion)
        else [seen]
    )

    expected = next(judgement for judgement in looks if judgement is not None)
    assert judge(history, candidate, pairs=Supply(fresh)) == expected


@laws
@given(
    change=changes,
    noise=st.floats(0.0, 0.1),
    seed=seeds,
    n_runs=st.integers(0, 12),
    n_pairs=st.integers(0, 27),
    is_disturbed=st.booleans(),
)
def test_what_is_said_follows_from_the_interval_and_the_pairs_that_are_shown(
    change: float, noise: float, seed: int, n_runs: int, n_pairs: int, *, is_disturbed: bool
) -> None:
    judgement = judge(
        runs(n_runs, noise=(noise, 0.01), seed=seed),
        runs(1, change=change, noise=(noise, 0.01), seed=seed)[0],
        pairs=Supply(pairs(n_pairs, change=change, noise=(noise, 0.01), seed=seed)),
        is_disturbed=is_disturbed,
    )

    reason, has_interval = judgement.reason, judgement.low_ratio is not None
    low, high = judgement.low_ratio or 0.0, judgement.high_ratio or math.inf
    is_within = low > 1 / 1.03 and high < 1.03
    what = (n_pairs, "fresh pair") if judgement.n_pairs else (n_runs, "run")
    assert ("is ruled out" in reason) <= is_within
    assert (judgement.verdict is Verdict.SAME) <= (
        is_within and not (judgement.n_pairs == 0 and is_disturbed)
    )
    assert ("neither rule out" in reason) <= (low <= 1 <= high and not is_within)
    assert ("probably slower" in reason) <= (low > 1)
    assert ("probably faster" in reason) <= (high < 1)
    assert ("no fresh pairs were measured" in reason) <= (n_pairs == 0)
    assert ("was measured, of the 3" in reason) == (
        n_pairs == 1 and judgement.verdict is Verdict.UNDECIDED
    )
    assert has_interval == (judgement.n_pairs > 0 or n_runs > 2)
    assert (
        "by fresh pairs" in reason
        or not judgement.n_pairs
        or f"{judgement.n_pairs} {what[1]}" in reason
    )
