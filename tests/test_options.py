from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.options import COMMAND_LINE, KEYS, MARKER_KEYS, marker_layer, merge_options


def test_the_strongest_layer_that_names_a_key_sets_it() -> None:
    options = merge_options({"rounds": 3}, {"rounds": 5, "threads": 2}, {"threads": 4})

    assert (options.rounds, options.threads) == (3, 2)


def test_a_key_of_none_is_left_to_the_next_layer() -> None:
    assert merge_options({"rounds": None}, {"rounds": 5}).rounds == 5


def test_false_and_zero_are_values_and_not_left_to_the_next_layer() -> None:
    options = merge_options(
        {"per_token": False, "warmup_rounds": 0}, {"per_token": True, "warmup_rounds": 4}
    )

    assert (options.per_token, options.warmup_rounds) == (False, 0)


@given(st.lists(st.none() | st.integers(min_value=1, max_value=9), max_size=5))
def test_merging_takes_the_first_value_of_all_layers(rounds: list[int | None]) -> None:
    options = merge_options(*({"rounds": value} for value in rounds))

    assert options.rounds == next((value for value in rounds if value is not None), None)


def test_an_unknown_marker_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageProblem) as caught:
        marker_layer((), {"round": 3})

    assert str(caught.value).startswith(
        "@pytest.mark.vlm_latency does not know 'round'; did you mean 'rounds'? It takes rounds, "
    )


def test_a_marker_takes_no_device_since_the_device_is_the_runs() -> None:
    with pytest.raises(UsageProblem, match="does not know 'device'"):
        marker_layer((), {"device": "cuda"})


def test_a_marker_with_a_nameless_argument_is_refused() -> None:
    with pytest.raises(UsageProblem) as caught:
        marker_layer((20,), {})

    assert str(caught.value) == (
        "@pytest.mark.vlm_latency was given 20 without a name; it takes keywords only: rounds, "
        "warmup_rounds, max_time_s, per_token, threads, setup, model, phases, config, target, "
        "alpha, min_effect, budget_ms, gate, why, until"
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"rounds": 0}, "rounds is 0; expected a whole number of at least 1"),
        ({"rounds": True}, "rounds is True; expected a whole number of at least 1"),
        ({"warmup_rounds": -1}, "warmup_rounds is -1; expected a whole number of at least 0"),
        ({"max_time_s": "5"}, "max_time_s is '5'; expected a number of seconds"),
        ({"max_time_s": 0}, "max_time_s is 0; expected more than 0 seconds"),
        ({"per_token": 1}, "per_token is 1; expected True or False"),
        ({"threads": 1.5}, "threads is 1.5; expected a whole number of at least 0"),
        ({"setup": 3}, "setup is 3; expected a function without arguments"),
        ({"max_time_s": float("inf")}, "max_time_s is inf; expected more than 0 seconds"),
        (
            {"phases": ["visual"]},
            "phases is ['visual']; expected a mapping with vision, blocks, step",
        ),
        (
            {"phases": {"vision": 3}},
            "phases={'vision': 3}; expected module paths as strings, or functions of the model "
            "that return its modules",
        ),
    ],
)
def test_an_ill_typed_marker_value_is_refused_by_name(
    keys: dict[str, object], problem: str
) -> None:
    with pytest.raises(UsageProblem) as caught:
        marker_layer((), keys)

    assert str(caught.value) == f"@pytest.mark.vlm_latency: {problem}"


def test_phases_are_named_by_paths_and_only_those_that_there_are() -> None:
    with pytest.raises(UsageProblem, match="phases= does not know 'visoin'; did you mean 'vision'"):
        marker_layer((), {"phases": {"visoin": "visual"}})

    layer = marker_layer((), {"phases": {"vision": ("a", "b"), "blocks": "c"}})

    assert layer == {"phases": {"vision": ("a", "b"), "blocks": "c"}}


def test_a_marker_takes_every_key_but_the_device() -> None:
    assert set(KEYS) - set(MARKER_KEYS) == {"device"}


def test_what_the_command_line_sets_are_keys_of_the_options() -> None:
    assert set(COMMAND_LINE) <= set(KEYS)
