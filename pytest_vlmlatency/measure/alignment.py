"""How the tokens of a loop agree with what it returned. Pure over a Trace and an output.

A loop of a model's own may return tokens that no forward gave, such as the one that begins a
sequence, before the first that one did, and may run one forward after its last token, or several
where it looks for the end now and then. Which it does shows in the ids that each step is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.generation import Mode
from pytest_vlmlatency.measure.output import new_rows
from pytest_vlmlatency.measure.trace import descend

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_vlmlatency.measure.trace import Trace
    from pytest_vlmlatency.measure.workload import Inputs

Ids = tuple[int, ...]
"""A token for each row."""
MOST_START = 4
"""Tokens that a loop puts before what it generates; more than one are believed if two after them
agree."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """`n_start_tokens` of the output were given by no forward; `is_fed`: each step is given one.

    Not fed where that was not seen, or the ids are others than those that were returned.
    `n_ahead` forwards, each given one token, ran after the one that was given the last that was
    returned.
    """

    n_start_tokens: int = 0
    is_fed: bool = False
    n_ahead: int = 0


def read_alignment(trace: Trace, step: str, output: object, inputs: Inputs) -> Alignment:
    """Return how the ids that the first decode steps were given agree with the output."""
    rows = new_rows(output, inputs)
    fed = list(_fed_ids(trace, step, inputs.n_prompt_forwards))
    if not rows or not fed or inputs.mode not in (Mode.GREEDY, Mode.SAMPLE):
        return Alignment()
    columns = list(zip(*rows, strict=True))
    for n_start in range(MOST_START + 1):
        given = columns[n_start:]
        n_compared = min(len(fed), len(given))
        if n_compared > (n_start > 1) and fed[:n_compared] == given[:n_compared]:
            return Alignment(n_start, is_fed=True, n_ahead=_n_ahead(trace, step, given, inputs))
    return Alignment()


def _n_ahead(trace: Trace, step: str, given: Sequence[Ids], inputs: Inputs) -> int:
    """Return how many forwards ran after the one that was given the last token returned.

    0 where not each forward is seen to be given one token of each row, and those that were returned
    in their order.
    """
    fed: list[Ids] = []
    n_steps = 0
    between: tuple[Ids, ...] = ()
    for call in trace.calls:
        between = between or call.ids
        if call.label == step:
            n_steps += 1
            if n_steps > inputs.n_prompt_forwards:
                if len(between) != 1:
                    return 0
                fed.append(between[0])
            between = ()
    return max(0, len(fed) - len(given)) if fed[: len(given)] == list(given) else 0


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
