"""A series as a line of blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.report.trend_text import BREAK, HEIGHTS, strip_of


def test_a_strip_has_a_block_for_each_value_and_a_bar_at_each_break() -> None:
    strip = strip_of([100.0, 100.0, 108.0, 108.0], breaks=[2], width=40)

    assert strip.text == "▁▁│██"
    assert (strip.bottom, strip.top) == (100.0, 108.0)


def test_noise_of_a_percent_does_not_look_like_mountains() -> None:
    strip = strip_of([100.0, 101.0, 99.5, 100.5], width=40)

    assert set(strip.text) <= set("▄▅▆▃")


def test_many_values_are_medians_of_their_neighbours() -> None:
    values = [100.0, 100.0, 500.0] * 20 + [110.0] * 60

    strip = strip_of(values, breaks=[60], width=21)

    assert strip.text == "▁" * 10 + "│" + "█" * 10


@pytest.mark.parametrize("values", [[5.0], [0.0, 0.0]])
def test_a_flat_series_lies_in_the_middle(values: list[float]) -> None:
    assert strip_of(values, width=5).text == "▅" * len(values)


@given(
    values=st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=300),
    position=st.integers(1, 299),
    width=st.integers(3, 100),
)
def test_a_strip_fits_its_width_and_is_of_blocks(
    values: list[float], position: int, width: int
) -> None:
    strip = strip_of(values, breaks=[position] if position < len(values) else [], width=width)

    assert 1 <= len(strip.text) <= width
    assert set(strip.text) <= {*HEIGHTS, BREAK}
