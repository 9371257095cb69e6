"""The perfect predictor's error from repeats is what it is where the truth is known."""

import numpy as np
import pytest

from benchmarks.evidence._measured_records import (
    inflation,
    intervals_of,
    own_median_errors,
    perfect_of,
    works_of,
)
from pytest_vlmlatency.estimator.columns import Table, table_of
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL

N_SAMPLES = 300
TRUE_MS = 100.0
DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "laplace": lambda rng, n: rng.laplace(size=n) / np.sqrt(2),
}


def a_table(
    kind: str, *, shift: float, shared: float, n_passes: int = 2, n_calls: int = 3
) -> Table:
    """Return calls of 300 works that all take 100 ms, but for 4 % of noise, a part of it shared."""
    rng = np.random.default_rng(5)
    records = []
    for run in range(n_passes):
        for sample in range(N_SAMPLES):
            common, own = DRAWS[kind](rng, (2, 1)), DRAWS[kind](rng, (2, n_calls))
            noise = 0.04 * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
            times = TRUE_MS * np.exp(noise + (shift / 2 if run else -shift / 2))
            records += [
                {
                    "actual_vision_tokens": 40,
                    "actual_text_tokens": 20,
                    "output_tokens": 2,
                    "tier": "low",
                    "top_k": 4,
                    "num_active_blocks": 8,
                    "T_vision_total": 1.0,
                    "T_LLM_prefill": times[0][call] - 1.0,
                    "T_LLM_decode": times[1][call],
                    "source": f"run{run}/photographs/{sample}{{top_k=4}}#{call}",
                }
                for call in range(n_calls)
            ]
    return table_of(records)


def excess(table: Table) -> tuple[float, float]:
    """Return the error found in parts of the true one, less 1, of prefill and decode."""
    found = perfect_of(table)
    truth = {PREFILL: table.prefill_ms, DECODE_STEP: table.decode_per_step_ms}
    return tuple(
        found[target].misses.mean() / np.abs(TRUE_MS / measured_ms - 1).mean() - 1
        for target, measured_ms in truth.items()
    )


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shift", [0.0, 0.06])
def test_of_normal_noise_the_perfect_error_is_found(shift: float, shared: float) -> None:
    assert excess(a_table("normal", shift=shift, shared=shared)) == pytest.approx((0, 0), abs=0.05)


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_of_noise_with_long_tails_it_is_a_few_percent_too_large_at_most(shared: float) -> None:
    found = excess(a_table("laplace", shift=0.0, shared=shared))

    assert found == pytest.approx((0.03, 0.03), abs=0.06)


@pytest.mark.parametrize("target", [0, 1])
def test_the_true_error_lies_in_the_interval_and_over_that_of_the_own_median(target: int) -> None:
    table = a_table("normal", shift=0.0, shared=0.5)
    name, measured_ms = ((PREFILL, table.prefill_ms), (DECODE_STEP, table.decode_per_step_ms))[
        target
    ]
    truth = np.abs(TRUE_MS / measured_ms - 1).mean()

    low, high = intervals_of(table, perfect_of(table))[name]

    assert low < truth < high
    assert high < 1.2 * low
    assert own_median_errors(table)[name] < truth


def test_what_a_pass_has_in_common_is_found() -> None:
    found = perfect_of(a_table("normal", shift=0.06, shared=0.5))[PREFILL]

    assert (found.shift, found.shared) == pytest.approx((0.06, 0.5), abs=0.06)


def test_calls_of_their_own_pass_would_make_noise_look_smaller() -> None:
    table = a_table("normal", shift=0.0, shared=0.9)
    works = works_of(table)
    of_work = np.array([np.median(table.prefill_ms[works == work]) for work in works])

    assert np.abs(of_work / table.prefill_ms - 1).mean() < 0.8 * (
        perfect_of(table)[PREFILL].misses.mean()
    )


def test_more_others_are_less_off_and_shared_noise_takes_that_away() -> None:
    assert inflation(1, 0.0) == pytest.approx(2**0.5, rel=0.01)
    assert inflation(9, 0.0) < 1.1
    assert inflation(9, 1.0) == pytest.approx(2**0.5, rel=0.01)


@pytest.mark.parametrize(("n_passes", "n_calls"), [(1, 3), (2, 1), (3, 3)])
def test_works_whose_noise_is_not_known_are_refused(n_passes: int, n_calls: int) -> None:
    table = a_table("normal", shift=0.0, shared=0.0, n_passes=n_passes, n_calls=n_calls)

    with pytest.raises(ValueError, match="expected 2 passes of 2 calls or more each"):
        perfect_of(table)


def test_calls_that_do_not_say_their_sample_are_refused() -> None:
    record = {
        "actual_vision_tokens": 40,
        "actual_text_tokens": 20,
        "output_tokens": 2,
        "T_vision_total": 1.0,
        "T_LLM_prefill": 9.0,
        "T_LLM_decode": 9.0,
        "source": "a file",
    }

    with pytest.raises(ValueError, match="'a file' names no case"):
        works_of(table_of([record]))
