"""The gate's report as Markdown, pinned whole, escaped, and cut to a size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.records import CaseState
from pytest_vlmlatency.report.gate_markdown import (
    code,
    gate_markdown,
    gate_markdown_within,
    prose,
)
from tests.gate_reports import SAME, SLOWER, WHOLE, a_report, a_verdict

GOLDEN = Path(__file__).parent / "golden"
MANY = a_report(
    [replace(SLOWER, case_name=f"test_slower[{n}]") for n in range(40)]
    + [replace(SAME, case_name=f"test_same[{n}]") for n in range(400)]
)


def test_the_whole_report() -> None:
    assert gate_markdown(WHOLE) == (GOLDEN / "gate_whole.md").read_text(encoding="utf-8")


def test_what_was_not_applied_stands_at_the_top() -> None:
    text = gate_markdown(a_report(not_applied_because=("nothing was measured",)))

    assert text.split("\n\n")[:3] == [
        "### vlm gate FAILED: nothing judged",
        "**The gate failed with exit status 12: it was asked for and could not be applied.**",
        "**Not applied:** nothing was measured",
    ]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("test_x[512]", "`test_x[512]`"),
        ("test_x[a|b]", r"`test_x[a\|b]`"),
        ("test_x[`]", "`` test_x[`] ``"),
        ("test_x[```]", "```` test_x[```] ````"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_a_name_is_code_that_stays_in_its_cell(text: str, marked: str) -> None:
    assert code(text) == marked


def test_prose_is_shown_as_it_is() -> None:
    said = prose("torch_x *2* <b>|</b> [a](b) `c` ~d~ \\ &amp; $x$ @ #")

    assert said == r"torch\_x \*2\* \<b\>\|\</b\> \[a\](b) \`c\` \~d\~ \\ \&amp; \$x\$ \@ \#"


def test_prose_mentions_nobody_and_links_to_nothing_even_where_a_backslash_would_not_help() -> None:
    said = prose("@someone #1 a@b.org https://evil.org www.evil.org")

    words = r"\@~someone \#~1 a\@~b.org https:~//evil.org www~.evil.org"
    assert said == words.replace("~", "&#8203;")
    assert [prose(text)[:7] for text in ("- x", "1. x", "=== x")] == ["&#8203;"] * 3


@given(st.text())
def test_no_name_breaks_the_table(name: str) -> None:
    text = gate_markdown(a_report([replace(SLOWER, case_name=name)]))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "vision" in line]

    assert len(rows) == 1
    assert rows[0].replace(r"\|", "").count("|") == 7


def test_a_report_that_has_room_is_whole() -> None:
    whole = gate_markdown(MANY)

    assert gate_markdown_within(MANY, n_bytes=len(whole.encode())) == whole


def test_a_report_without_room_leaves_out_cases_of_each_group_and_says_how_many() -> None:
    text = gate_markdown_within(MANY, n_bytes=20_000)

    assert text is not None
    assert len(text.encode()) <= 20_000
    assert text.startswith("### vlm gate FAILED: 40 slower, 400 same\n")
    assert "`test_slower[29]`" in text
    assert "`test_slower[30]`" not in text
    assert "\n10 cases left out, for want of room.\n" in text
    assert "\n370 cases left out, for want of room.\n" in text


@pytest.mark.parametrize("n_bytes", [400, 1_000, 5_000, 50_000])
def test_a_cut_report_is_never_larger_than_its_room(n_bytes: int) -> None:
    text = gate_markdown_within(MANY, n_bytes=n_bytes)

    assert text is not None
    assert len(text.encode()) <= n_bytes


def test_room_for_nothing_gives_nothing() -> None:
    assert gate_markdown_within(MANY, n_bytes=10) is None


def test_bytes_are_counted_not_characters() -> None:
    names = [a_verdict(f"test_{'ä' * 500}", state=CaseState.NEW)]
    text = gate_markdown(a_report(names))

    assert gate_markdown_within(a_report(names), n_bytes=len(text)) != text
