from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.report.progress import StatusLine

if TYPE_CHECKING:
    from collections.abc import Iterator


class FakeScreen:
    """A terminal that remembers what was done to it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.done: list[str] = []

    def ensure_newline(self) -> None:
        self.done.append("newline")

    def rewrite(self, line: str, **markup: bool) -> None:
        self.done.append(f"{line!r} erasing" if markup.get("erase") else repr(line))

    @contextmanager
    def uncaptured(self) -> Iterator[None]:
        self.done.append("let go")
        yield
        self.done.append("capture")


@pytest.fixture
def screen() -> FakeScreen:
    return FakeScreen()


@pytest.fixture
def line(screen: FakeScreen) -> StatusLine:
    return StatusLine(screen, width=20, uncaptured=screen.uncaptured, now_s=lambda: screen.now_s)


def test_the_first_line_leaves_what_pytest_was_writing(
    screen: FakeScreen, line: StatusLine
) -> None:
    line.show("round 1")

    assert screen.done == ["let go", "newline", "'round 1' erasing", "capture"]


def test_a_later_line_is_written_over_the_first(screen: FakeScreen, line: StatusLine) -> None:
    line.show("round 1")
    screen.now_s = 0.2
    line.show("round 2")

    assert screen.done[4:] == ["let go", "'round 2' erasing", "capture"]


def test_nothing_is_written_more_often_than_can_be_read(
    screen: FakeScreen, line: StatusLine
) -> None:
    line.show("round 1")
    screen.now_s = 0.05
    line.show("round 2")

    assert "'round 2' erasing" not in screen.done


def test_a_long_line_is_cut_at_the_terminals_edge(screen: FakeScreen, line: StatusLine) -> None:
    line.show("x" * 40)

    assert f"'{'x' * 19}' erasing" in screen.done


def test_clearing_leaves_an_empty_line_once(screen: FakeScreen, line: StatusLine) -> None:
    line.show("round 1")
    screen.done.clear()

    line.clear()
    line.clear()

    assert screen.done == ["let go", "'' erasing", "''", "capture"]


def test_clearing_what_was_never_shown_writes_nothing(screen: FakeScreen, line: StatusLine) -> None:
    line.clear()

    assert screen.done == []
