"""Laws are monotone whatever their terms, and one request is answered as a column is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.law_fit import fit_nonnegative
from pytest_vlmlatency.estimator.terms import Factor, Law, Shape, design

NAMES = ("tokens", "top_k", "num_active_blocks")
AT = st.floats(1, 2000)
FACTORS = st.one_of(
    st.builds(Factor, st.sampled_from(NAMES)),
    st.builds(
        Factor,
        st.sampled_from(NAMES),
        st.sampled_from([Shape.ABOVE, Shape.AT_LEAST, Shape.ROUNDED_UP]),
        AT,
    ),
)
TERMS = st.lists(st.tuples() | st.tuples(FACTORS) | st.tuples(FACTORS, FACTORS), min_size=1)
AMOUNTS = st.tuples(*(st.floats(0, 4000) for _ in NAMES))


@st.composite
def laws(draw: st.DrawFn) -> Law:
    terms = tuple(draw(TERMS))
    coefficients = draw(st.lists(st.floats(1e-6, 100), min_size=len(terms), max_size=len(terms)))
    return Law(terms, tuple(coefficients))


@given(law=laws(), amounts=AMOUNTS, grown=st.sampled_from(range(3)), by=st.floats(0, 1000))
def test_more_of_an_amount_is_never_less_time(
    law: Law, amounts: tuple[float, ...], grown: int, by: float
) -> None:
    more = [value + by * (index == grown) for index, value in enumerate(amounts)]

    before = law.of_values(dict(zip(NAMES, amounts, strict=True)))

    assert law.of_values(dict(zip(NAMES, more, strict=True))) >= before


@given(law=laws(), rows=st.lists(AMOUNTS, min_size=1, max_size=5))
def test_a_request_is_answered_as_in_a_column(law: Law, rows: list[tuple[float, ...]]) -> None:
    columns = {name: np.array(values) for name, *values in zip(NAMES, *rows, strict=True)}

    alone = [law.of_values(dict(zip(NAMES, row, strict=True))) for row in rows]

    assert law.of_columns(columns).tolist() == alone


def test_each_shape_follows_its_amount() -> None:
    columns = {"tokens": np.array([0.0, 64.0, 65.0])}
    shapes = [
        Factor("tokens"),
        Factor("tokens", Shape.ABOVE, 64.0),
        Factor("tokens", Shape.AT_LEAST, 64.0),
        Factor("tokens", Shape.ROUNDED_UP, 64.0),
    ]

    matrix = design(tuple((shape,) for shape in shapes), columns)

    assert matrix.T.tolist() == [[0, 64, 65], [0, 0, 1], [0, 1, 1], [0, 64, 128]]


@pytest.mark.parametrize("coefficient", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_law_that_would_not_be_monotone_is_refused(coefficient: float) -> None:
    with pytest.raises(EstimatorProblem, match="finite and above 0, or the law would not be mono"):
        Law(((),), (coefficient,))


def test_a_law_has_a_coefficient_for_each_term() -> None:
    with pytest.raises(EstimatorProblem, match="2 terms have 1 coefficients"):
        Law(((), ()), (1.0,))


@given(scale=st.floats(1e-4, 1e4), seed=st.integers(0, 20))
def test_scaled_times_scale_all_coefficients(scale: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = np.column_stack([np.ones(60), random.uniform(1, 9, 60), random.uniform(1, 9, 60)])
    measured_ms = matrix @ [3.0, 1.0, 0.0] * random.uniform(0.95, 1.05, 60)
    prior = np.full(3, 10.0)

    plain = fit_nonnegative(matrix, measured_ms, prior)
    scaled = fit_nonnegative(matrix, measured_ms * scale, prior)

    assert scaled.coefficients == pytest.approx(plain.coefficients * scale, rel=1e-6, abs=1e-9)
    assert scaled.sigma_ratio == pytest.approx(plain.sigma_ratio, rel=1e-6)


@given(unit=st.floats(1e-3, 1e6))
def test_the_unit_of_an_amount_does_not_matter(unit: float) -> None:
    random = np.random.default_rng(0)
    matrix = np.column_stack([np.ones(60), random.uniform(1, 9, 60)])
    measured_ms = matrix @ [3.0, 1.0] * random.uniform(0.95, 1.05, 60)

    plain = fit_nonnegative(matrix, measured_ms, np.full(2, 10.0))
    other = fit_nonnegative(matrix * [1.0, unit], measured_ms, np.full(2, 10.0))

    assert other.coefficients * [1.0, unit] == pytest.approx(plain.coefficients, rel=1e-6)


def test_a_column_that_would_need_a_negative_coefficient_gets_none() -> None:
    random = np.random.default_rng(0)
    falling = random.uniform(1, 2, 100)
    matrix = np.column_stack([np.ones(100), falling])

    fit = fit_nonnegative(matrix, 10 - 2 * falling, np.full(2, 10.0))

    assert fit.coefficients[1] == 0
    assert fit.coefficients[0] > 0


def test_a_column_with_a_narrow_prior_is_shrunk() -> None:
    matrix = np.column_stack([np.ones(12), np.repeat([0.0, 1.0], 6)])
    measured_ms = matrix @ [10.0, 1.0] * np.random.default_rng(0).uniform(0.9, 1.1, 12)

    free = fit_nonnegative(matrix, measured_ms, np.array([10.0, 10.0])).coefficients[1]
    narrow = fit_nonnegative(matrix, measured_ms, np.array([10.0, 0.01])).coefficients[1]

    assert 0 < narrow < 0.5 * free
