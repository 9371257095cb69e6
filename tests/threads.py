"""How many threads torch uses in a test: their number is the machine's otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch use `n` threads, and give back what it had.

    Models as small as the zoo's are several times slower when threads wait for one another, and
    their results depend on the number in the last bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
