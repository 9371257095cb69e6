"""How far a profile is, and how long it will still take: a line that a terminal keeps rewriting.

Where nobody watches (a log, a CI), a line a minute.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import has_terminal, warn
from pytest_vlmlatency.report.progress import StatusLine, Stderr

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGED_EVERY_S = 60.0
S_PER_MIN, S_PER_H = 60, 3600


class Progress:
    """Counts the measurements of a profile: `n_all` in all, of which `n_before` were there."""

    def __init__(
        self, n_all: int, n_before: int, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._n_all, self._n_before, self._n_done = n_all, n_before, 0
        self._now_s = now_s
        self._start_s = now_s()
        self._logged_s = self._start_s - LOGGED_EVERY_S
        self._status = (
            StatusLine(Stderr(), width=get_terminal_size().columns, uncaptured=nullcontext)
            if has_terminal(sys.stderr)
            else None
        )

    def line(self, what: str) -> str:
        """Return how far it is: what is measured now, the share done, and the time left."""
        n_known = self._n_before + self._n_done
        share = 100 * n_known / self._n_all if self._n_all else 100
        return f"{n_known:,} of {self._n_all:,} ({share:.0f} %), {self._left()}: {what}"

    def show(self, what: str) -> None:
        """Show what is measured now."""
        if self._status is not None:
            self._status.show(self.line(what))
        elif self._now_s() - self._logged_s >= LOGGED_EVERY_S:
            self._logged_s = self._now_s()
            warn(self.line(what))

    def done(self) -> None:
        """Count one measurement, refused or not."""
        self._n_done += 1

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        warn(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.clear()

    def _left(self) -> str:
        if not self._n_done:
            return "time left not known yet"
        each_s = (self._now_s() - self._start_s) / self._n_done
        return f"{duration(each_s * (self._n_all - self._n_before - self._n_done))} left"


def duration(time_s: float) -> str:
    """Return a time as it is read: seconds, minutes, or hours and minutes."""
    if time_s < S_PER_MIN:
        return f"{time_s:.0f} s"
    minutes = round(time_s / S_PER_MIN)
    if minutes < S_PER_MIN:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"
