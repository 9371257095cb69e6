"""How the tokens of a loop agree with what it returned. Pure over a Trace and an output.

A loop of a model's own may return a token that no forward gave, such as the one that begins a
sequence, before the first that one did, and may run one forward after its last token. Which it does
shows in the ids that each step is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.generation import Mode
from pytest_vlmlatency.measure.output import new_rows
from pytest_vlmlatency.measure.trace import descend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.measure.trace import Trace
    from pytest_vlmlatency.measure.workload import Inputs

Ids = tuple[int, ...]
"""A token for each row."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """`n_start_tokens` of the output were given by no forward; `is_fed`: each step is given one.

    Not fed where that was not seen, or the ids are others than those that were returned.
    """

    n_start_tokens: int = 0
    is_fed: bool = False


def read_alignment(trace: Trace, step: str, output: object, inputs: Inputs) -> Alignment:
    """Return how the ids that the first decode steps were given agree with the output."""
    rows = new_rows(output, inputs)
    fed = list(_fed_ids(trace, step, inputs.n_prompt_forwards))
    if not rows or not fed or inputs.mode not in (Mode.GREEDY, Mode.SAMPLE):
        return Alignment()
    columns = list(zip(*rows, strict=True))
    for n_start in (0, 1):
        given = columns[n_start:]
        if given and all(one == other for one, other in zip(fed, given, strict=False)):
            return Alignment(n_start, is_fed=True)
    return Alignment()


def _fed_ids(trace: Trace, step: str, n_prompt_forwards: int) -> Iterator[Ids]:
    """Yield the first ids that came after each forward up to the end of the next: its token."""
    nodes = list(trace.nodes())
    steps = [node for node in nodes if node.label == step][n_prompt_forwards - 1 :]
    ends = [max(node.index for node in descend(one)) for one in steps]
    for start, end in pairwise(ends):
        ids = next((node.ids for node in nodes if start < node.index <= end and node.ids), None)
        if ids is None:
            return
        yield ids
