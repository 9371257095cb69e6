"""Two decode times, two names: neither is given for the other."""

import pytest

from pytest_vlmlatency.estimator.recipes import OtherDecodeTime, Predicted, Recipe


def a_prediction(recipe: Recipe) -> Predicted[float]:
    """Return what a network says."""
    return Predicted(recipe, prefill_ms=90.0, decode_ms=40.0)


def test_each_recipe_has_its_own_name_for_decode() -> None:
    assert a_prediction(Recipe.ORIGIN) == {"T_prefill_total": 90.0, "T_decode_per_token": 40.0}
    assert a_prediction(Recipe.MENDED) == {"T_prefill_total": 90.0, "T_decode_per_step": 40.0}


def test_the_mended_recipe_explains_why_it_has_no_time_per_token() -> None:
    with pytest.raises(OtherDecodeTime) as raised:
        a_prediction(Recipe.MENDED)["T_decode_per_token"]

    assert str(raised.value) == (
        "'T_decode_per_token' was asked of an estimator trained with the mended recipe; it has "
        "'T_prefill_total' and 'T_decode_per_step'. T_decode_per_token is decode / N: it depends "
        "on the number of output tokens N, which no estimator is told. With a prediction of "
        "T_decode_per_step it is T_decode_per_step * (N - 1) / N; a network with recipe='origin' "
        "is trained on it directly"
    )


def test_the_origins_recipe_explains_why_it_has_no_time_per_step() -> None:
    with pytest.raises(OtherDecodeTime, match=r"trained on decode / N, where short outputs look"):
        a_prediction(Recipe.ORIGIN)["T_decode_per_step"]


@pytest.mark.parametrize("recipe", Recipe)
def test_get_does_not_answer_with_nothing_for_the_other_time(recipe: Recipe) -> None:
    (other,) = {"T_decode_per_token", "T_decode_per_step"} - set(a_prediction(recipe))

    with pytest.raises(OtherDecodeTime):
        a_prediction(recipe).get(other)


def test_a_name_that_is_neither_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(KeyError, match=r"no 'ttft'; it has 'T_prefill_total' and"):
        a_prediction(Recipe.MENDED)["ttft"]
