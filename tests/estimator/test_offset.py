"""Outputs of different lengths tell what a decode costs once from its steps; nothing else does."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.law_fit import Fit, FittedLaw, fit_law, is_offset_told
from pytest_vlmlatency.estimator.protocol import DECODE_STEP
from pytest_vlmlatency.estimator.roofline import OF_DECODE, RooflineEstimator
from tests.estimator.records import a_record

N_RECORDS = 60
NOISES = st.sampled_from([0.0, 0.01, 0.027, 0.1])
STEPS_MS = st.floats(0.5, 500)
ONCE_STEPS = st.floats(0, 3)  # what a decode costs once, in steps
SEEDS = st.integers(0, 1000)
laws = settings(deadline=None)


def decodes(
    lengths: Sequence[int], *, step_ms: float, once_ms: float = 0.0, noise: float = 0.0, seed: int
) -> list[dict[str, object]]:
    """Return records whose outputs have these lengths in turn."""
    random = np.random.default_rng(seed)
    errors = noise * random.uniform(-np.sqrt(3), np.sqrt(3), N_RECORDS)
    return [
        a_record(
            output_tokens=(n_tokens := lengths[index % len(lengths)]),
            T_LLM_prefill=50.0 + index / 1000,
            T_LLM_decode=(once_ms + step_ms * (n_tokens - 1)) * (1 + float(errors[index])),
            tier=None,
            top_k=None,
            num_active_blocks=None,
        )
        for index in range(N_RECORDS)
    ]


def fitted_decode(records: list[dict[str, object]]) -> tuple[float, FittedLaw]:
    """Return the step of the fitted decode law in ms, and the law."""
    table = table_of(records)
    fitted = fit_law(table, OF_DECODE, ())
    amounts = {"vision_tokens": 576.0, "text_tokens": 32.0, "tokens": 608.0}
    return fitted.law.of_values(amounts), fitted


def test_with_one_output_length_all_of_decode_is_the_steps() -> None:
    records = [
        a_record(output_tokens=16, T_LLM_decode=300.0, actual_vision_tokens=100 + index)
        for index in range(N_RECORDS)
    ]

    estimator = RooflineEstimator().fit(records)

    asked = {"vision_tokens": 120, "text_tokens": 32, "top_k": 8, "num_active_blocks": 16}
    assert estimator.predict(asked)[DECODE_STEP] == pytest.approx(20)
    assert estimator.model.decode_offset_ms == 0
    assert estimator.max_output_tokens(asked, 60 + 15 * 20 + 1) == 16


@laws
@given(n_tokens=st.integers(2, 400), step_ms=STEPS_MS, once=ONCE_STEPS, noise=NOISES, seed=SEEDS)
def test_one_length_never_tells_an_offset(
    n_tokens: int, step_ms: float, once: float, noise: float, seed: int
) -> None:
    records = decodes([n_tokens], step_ms=step_ms, once_ms=once * step_ms, noise=noise, seed=seed)

    step, fitted = fitted_decode(records)

    assert fitted.offset_ms == 0
    mean_step_ms = step_ms + once * step_ms / (n_tokens - 1)
    assert step == pytest.approx(mean_step_ms, rel=5 * noise / np.sqrt(N_RECORDS) + 1e-3)


@laws
@given(n_tokens=st.integers(4, 400), step_ms=STEPS_MS, once=ONCE_STEPS, noise=NOISES, seed=SEEDS)
def test_two_neighbouring_lengths_tell_none_either(
    n_tokens: int, step_ms: float, once: float, noise: float, seed: int
) -> None:
    lengths = [n_tokens, n_tokens + 1]
    records = decodes(lengths, step_ms=step_ms, once_ms=once * step_ms, noise=noise, seed=seed)

    step, fitted = fitted_decode(records)

    assert fitted.offset_ms == 0
    mean_steps_ms = [step_ms + once * step_ms / (n - 1) for n in lengths]
    doubt = 5 * noise / np.sqrt(N_RECORDS) + 1e-3
    assert min(mean_steps_ms) * (1 - doubt) <= step <= max(mean_steps_ms) * (1 + doubt)


@laws
@given(
    lengths=st.sets(st.integers(2, 64), min_size=12, max_size=30).filter(lambda n: min(n) <= 6),
    step_ms=STEPS_MS,
    once=ONCE_STEPS,
    noise=NOISES,
    seed=SEEDS,
)
def test_wide_lengths_tell_the_offset_from_the_step(
    lengths: set[int], step_ms: float, once: float, noise: float, seed: int
) -> None:
    records = decodes(
        sorted(lengths), step_ms=step_ms, once_ms=once * step_ms, noise=noise, seed=seed
    )

    step, fitted = fitted_decode(records)

    assert step == pytest.approx(step_ms, rel=2.5 * noise + 2e-3)
    assert fitted.offset_ms == pytest.approx(
        once * step_ms, abs=step_ms * (max(lengths) * 1.5 * noise + 5e-3)
    )


@pytest.mark.parametrize("seed", range(5))
def test_one_short_output_that_was_disturbed_is_no_offset(seed: int) -> None:
    records = decodes([16], step_ms=20.0, noise=0.027, seed=seed)
    records[30] |= {"output_tokens": 2, "T_LLM_decode": 3 * 20.0}

    step, fitted = fitted_decode(records)

    assert fitted.offset_ms == 0
    assert step == pytest.approx(20, rel=0.02)


def test_an_offset_that_is_far_above_its_doubt_is_told_through_much_noise() -> None:
    records = decodes(range(2, 25), step_ms=20.0, once_ms=60.0, noise=0.25, seed=1)

    step, fitted = fitted_decode(records)

    assert fitted.offset_ms == pytest.approx(60, rel=0.4)
    assert step == pytest.approx(20, rel=0.15)


def test_a_record_that_is_expected_to_take_no_time_tells_nothing() -> None:
    lengths = np.resize([1.0, 2.0, 8.0], 60)
    blocks = np.array([*[4.0] * 59, 0.0])
    matrix = np.column_stack([np.ones(60), blocks * lengths])
    fit = Fit(np.array([0.0, 2.0]), 0.01)

    assert is_offset_told(matrix, 8 * lengths, fit)
