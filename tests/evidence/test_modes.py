"""The evidence of modes can be false, and says of each cell what was found."""

from dataclasses import replace

from benchmarks.evidence.modes import Cell, Figures, cells_text, judge_figures

RIGHT = Cell(mode="greedy", family="llava", outcome="right", why="", labels=())
REFUSED = replace(RIGHT, mode="no cache", outcome="refused", why="vision ran again")
FAILING = replace(
    RIGHT, mode="DoLa", outcome="transformers itself refuses", why="ValueError: it was moved"
)
WRONG = replace(RIGHT, mode="beams", outcome="wrong", why="vision_ms is 0, not 60")


def test_a_wrong_cell_fails_the_evidence() -> None:
    claims = judge_figures(Figures(cells=(RIGHT, WRONG)))

    assert not claims[0].holds
    assert claims[0].seen == "beams, llava: vision_ms is 0, not 60"


def test_refusals_with_reasons_hold() -> None:
    claims = judge_figures(Figures(cells=(RIGHT, REFUSED, FAILING)))

    assert (claims[0].holds, claims[1].holds) == (True, True)


def test_a_refusal_without_a_reason_fails_the_evidence() -> None:
    claims = judge_figures(Figures(cells=(RIGHT, replace(REFUSED, why=""))))

    assert not claims[1].holds


def test_a_small_table_fails_the_evidence() -> None:
    assert not judge_figures(Figures(cells=(RIGHT, REFUSED)))[2].holds


def test_each_reason_is_listed_once_and_pointed_to() -> None:
    labelled = replace(RIGHT, mode="beams", labels=("beam",))

    text = cells_text((RIGHT, labelled, REFUSED, FAILING))

    assert text == (
        "| mode     |     llava | labels |\n"
        "| -------- | --------: | -----: |\n"
        "| greedy   |     right |   none |\n"
        "| beams    |     right |   beam |\n"
        "| no cache | refused 1 |      - |\n"
        "| DoLa     |   fails 2 |      - |\n"
        "\n"
        "1. refused: vision ran again\n"
        "2. transformers: ValueError: it was moved"
    )
