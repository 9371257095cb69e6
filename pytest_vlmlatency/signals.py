"""SIGTERM and SIGHUP end what runs as Ctrl-C does, so that what was measured is kept.

CI sends the first at a time-out, and a terminal that is closed the second. They raise where they
arrive, once: a second one ends the process at once, as it would without us. A handler of somebody
else's, or a signal that is ignored (nohup), stays as it is; so does everything in other threads.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
CTRL_C = "Ctrl-C"
STATUS_OF_A_SIGNAL = 128
"""A shell adds the number of the signal that ended a program."""


_received: list[int] = []
"""The signals that ended something in this process, of `ENDING`, the newest last."""


class Terminated(KeyboardInterrupt):
    """A signal as an exception, as Ctrl-C is one: what was opened is closed on its way out."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def interrupted() -> KeyboardInterrupt:
    """Return the exception of the signal that arrived, for a library that raised its own instead.

    DuckDB takes the exception of a handler for a reason to cancel a query: "Query interrupted".
    """
    return Terminated(_received[-1]) if _received else KeyboardInterrupt()


def interruption(end: KeyboardInterrupt) -> str:
    """Return what ended something from outside: SIGTERM, SIGHUP or Ctrl-C."""
    return str(end) if isinstance(end, Terminated) else CTRL_C


def status_of(end: KeyboardInterrupt) -> int:
    """Return the exit status of a command that was ended: 130 by Ctrl-C, 143 by SIGTERM."""
    number = end.number if isinstance(end, Terminated) else signal.SIGINT
    return STATUS_OF_A_SIGNAL + number


@contextmanager
def ending_signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Terminated in the main thread, if nobody else handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, _frame: object) -> NoReturn:
        reset()
        _received.append(number)
        raise Terminated(number)

    def reset() -> None:
        for number in ours:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)

    _received.clear()
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        reset()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP off while things are put in order, which takes a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *ENDING)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
