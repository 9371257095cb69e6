"""One line of a terminal, written again and again while something long is measured.

Owns when a line is worth writing. pytest's reporter owns the terminal, and its capture is let go
for the moment of writing only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.printing import printable, write_over

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

PAUSE_S = 0.1  # nobody reads faster, and a short round should not spend its time on writing


class Screen(Protocol):
    """What pytest's terminal reporter can do for one line."""

    def ensure_newline(self) -> None:
        """End the line that pytest is writing, so that it is not written over."""

    def rewrite(self, line: str, **markup: bool) -> None:
        """Write over the current line."""


class Stderr:
    """Standard error as a screen for one line, where no reporter of pytest's owns it."""

    def ensure_newline(self) -> None:
        """Nothing else writes on this line."""

    def rewrite(self, line: str, **_markup: bool) -> None:
        """Write over the current line."""
        write_over(line)


class StatusLine:
    """A line that says how far a measurement is; `clear` takes it away again."""

    def __init__(
        self,
        screen: Screen,
        *,
        width: int,
        uncaptured: Callable[[], AbstractContextManager[None]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._screen = screen
        self._width = width
        self._uncaptured = uncaptured
        self._now_s = now_s
        self._shown_s: float | None = None

    def show(self, text: str) -> None:
        """Write over the line, unless that was done a moment ago."""
        now_s = self._now_s()
        if self._shown_s is not None and now_s - self._shown_s < PAUSE_S:
            return
        with self._uncaptured():
            if self._shown_s is None:
                self._screen.ensure_newline()
            self._screen.rewrite(printable(text)[: self._width - 1], erase=True)
        self._shown_s = now_s

    def clear(self) -> None:
        """Leave an empty line behind for pytest to go on with."""
        if self._shown_s is None:
            return
        with self._uncaptured():
            self._screen.rewrite("", erase=True)
            self._screen.rewrite("")
        self._shown_s = None
