"""Whether one prompt was all that a watched generate() worked on.

A prompt shows by what blocks are given: many positions at once, then one for each token, and a
cache that is empty. Every list of blocks in the process is looked at, whatever model it belongs to,
until the call returns: what runs for a second prompt may be the same module, another part, or
another model. What drafts is explained by the way of decoding; what generates beside it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.generation import Mode, find_cache, length_of_cache
from pytest_vlmlatency.calls.handles import around_every_call
from pytest_vlmlatency.calls.loop import ONE_EACH
from pytest_vlmlatency.discovery.phases import is_list
from pytest_vlmlatency.discovery.trace import Trace, ancestors, has_logits
from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# B rows, L positions, D width.
STATE_DIMS = 3
IDS_DIMS = 2
INTEGERS = (torch.int32, torch.int64)
N_REST = 2
"""A hook is given keyword arguments and an output after the positional ones."""


@dataclass(slots=True, eq=False)
class Outermost:
    """One call of a module by no other, and how many positions each list of blocks in it was given.

    `label` is the module's path, or its type where it is outside the model. `n_rows` are the rows
    of the same states as `lengths`. `afresh` are the lists of blocks whose cache held no more than
    the positions of this call when their first block returned. `across` are the lists of blocks
    that had begun when a module was given other states beside those that it works on. `ids` are the
    ids that it was given, by column.
    """

    label: str
    is_inside: bool
    lengths: dict[str, int] = field(default_factory=dict)
    n_rows: dict[str, int] = field(default_factory=dict)
    afresh: set[str] = field(default_factory=set)
    across: set[str] = field(default_factory=set)
    has_logits: bool = False
    takes_ids: bool = False
    ids: tuple[tuple[int, ...], ...] = ()


@contextmanager
def outermost_calls(
    model: torch.nn.Module, is_assistants: Callable[[object], bool]
) -> Iterator[list[Outermost]]:
    """Note every outermost call of a module in this process, the model's or not, in order.

    Calls of a module of which `is_assistants` is true, and all inside, are left out.
    """
    seen = _Seen(model, is_assistants)
    with around_every_call(seen.enter, seen.leave):
        yield seen.calls


class _Seen:
    """Builds the list while modules run."""

    def __init__(self, model: torch.nn.Module, is_assistants: Callable[[object], bool]) -> None:
        self.calls: list[Outermost] = []
        self._is_assistants = is_assistants
        self._paths = {module: path for path, module in model.named_modules()}
        self._lists = {
            child: path
            for path, module in model.named_modules()
            if is_list(module)
            for child in module.children()
        }
        self._open: list[torch.nn.Module] = []

    def enter(self, module: torch.nn.Module, _args: object) -> None:
        if not self._open:
            is_inside = module in self._paths
            label = self._paths.get(module, f"{type(module).__name__} (outside the model)")
            self.calls.append(Outermost(label, is_inside))
        self._open.append(module)

    def leave(
        self,
        module: torch.nn.Module,
        args: Sequence[object],
        *rest: object,
    ) -> None:
        while self._open and self._open.pop() is not module:
            pass  # what a caught error ended
        if len(rest) < N_REST:
            return  # torch calls so after an error
        kwargs, output = rest
        assert isinstance(kwargs, Mapping), "torch's own"
        call, inputs = self.calls[-1], (*args, *kwargs.values())
        path = self._lists.get(module)
        states = _states(inputs)
        if path is not None and states and path not in call.lengths:
            call.n_rows[path], call.lengths[path] = states[0].shape[:2]
            if _n_held(inputs) in range(1, call.lengths[path] + 1):
                call.afresh.add(path)
        if any(_are_beside(states[0], it) for it in states[1:]):
            call.across.update(call.lengths)
        if not self._open:
            self._close(call, module, inputs, output)

    def _close(
        self, call: Outermost, module: torch.nn.Module, inputs: Sequence[object], output: object
    ) -> None:
        ids = _ids(inputs)
        call.has_logits, call.takes_ids = has_logits(output), bool(ids)
        call.ids = tuple(map(tuple, ids[0].T.tolist())) if ids else ()
        if call.is_inside:
            return
        given = [*_states(inputs), *ids]
        if self._is_assistants(module) or not given or not any(map(is_list, module.modules())):
            self.calls.pop()
            return
        call.n_rows[call.label], call.lengths[call.label] = given[0].shape[:2]


def _states(inputs: Sequence[object]) -> list[torch.Tensor]:
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    return [it for it in tensors if it.is_floating_point() and it.dim() == STATE_DIMS]


def _n_held(inputs: Sequence[object]) -> int:
    """Return how many positions a block's cache holds, 0 where that is not known."""
    try:
        return length_of_cache(find_cache(inputs))
    except ValueError:  # it keeps states, and no positions
        return 0


def _are_beside(states: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether other states are given beside those of a block, and no mask over its positions."""
    _, length, width = states.shape
    return others.shape[1] != length and (others.shape[2] != length or length == width)


def _ids(inputs: Sequence[object]) -> list[torch.Tensor]:
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    return [it for it in tensors if it.dim() == IDS_DIMS and it.dtype in INTEGERS]


def attends_across(trace: Trace, blocks: Sequence[str]) -> bool:
    """Whether the blocks of a traced call were given states beside those that they work on."""
    path = _list_of(blocks)
    prompt = next((call for call in trace.calls if path in call.lengths), None)
    return prompt is not None and path in prompt.across


def check_one_prompt(
    trace: Trace,
    step: str,
    blocks: Sequence[str],
    *,
    mode: Mode,
    n_prompt_forwards: int,
    n_rows: int,
) -> None:
    """Raise InvalidMeasurement if something worked on a second prompt.

    `n_rows` are the prompt's.
    """
    own = {list(ancestors(node))[-1].path for node in trace.nodes() if node.path == step}
    path = _list_of(blocks)
    at = [
        index
        for index, call in enumerate(trace.calls)
        if call.is_inside and call.label in own and path in call.lengths
    ][n_prompt_forwards - 1 :]
    if not at:
        return
    lengths = [_positions(trace.calls[index], path, n_rows) for index in at]
    second = None if mode is Mode.ASSISTED else find_second_prompt(lengths, mode)
    if second is not None:
        raise _refusal(f"{path} was given {lengths[second]} positions at once", "after it")
    has_cache = mode is not Mode.GUIDED and lengths[0] > 1
    if has_cache and any(path in trace.calls[index].afresh for index in at[1:]):
        raise _refusal(f"{path} was given an empty cache again", "after it")
    others = _Others(trace.calls, own)
    earlier = others.generating_before(at[0])
    if earlier:
        raise _refusal(f"{earlier} generated", "before it")
    later = others.only_after(at)
    if later:
        raise _refusal(f"{later} ran", "after it")


def find_second_prompt(lengths: Sequence[int], mode: Mode = Mode.GREEDY) -> int | None:
    """Return which forward of a loop is a second prompt's, given the positions of each.

    The prompt's first, forwards have one position, or as many as before, or one more (without a
    cache). Guidance has every second forward for itself.
    """
    if mode is Mode.GUIDED:
        found = [find_second_prompt(lengths[start::2]) for start in (0, 1)]
        return next((2 * index + start for start, index in enumerate(found) if index), None)
    for index, (before, now) in enumerate(pairwise(lengths), start=1):
        is_first_step = now == 1 and index == 1
        if not is_first_step and now not in (before, before + 1):
            return index
    return None


def _positions(call: Outermost, path: str, n_rows: int) -> int:
    """Return the positions of a row, where rows may lie behind one another."""
    length = call.lengths[path]
    is_packed = call.n_rows[path] == 1 < n_rows and length % n_rows == 0
    return length // n_rows if is_packed else length


class _Others:
    """What ran beside the step module: in a list of blocks of its own."""

    def __init__(self, calls: Sequence[Outermost], own: set[str]) -> None:
        self._calls = calls
        self._own = own

    def generating_before(self, index: int) -> str:
        """Return what generated before the prompt, "" if nothing did.

        It gave logits for ids, or worked on one position after many.
        """
        lengths: dict[str, list[int]] = {}
        for call in self._others(0, index):
            if call.has_logits and call.takes_ids:
                return call.label
            for path, length in call.lengths.items():
                lengths.setdefault(path, []).append(length)
        loops = (path for path, row in lengths.items() if row[0] > 1 in row[1:])
        return next(loops, "")

    def only_after(self, steps: Sequence[int]) -> str:
        """Return what ran after the prompt, and not in every step alike, "" if nothing did."""
        bounds = [*steps, len(self._calls)]
        gaps = [self._lengths_between(*pair) for pair in pairwise(bounds)]
        regular = set(gaps[0]) if len(gaps) > 1 else set()
        for gap in gaps[:-1]:
            regular &= set(gap)
        for gap in gaps:
            once = next((path for path in gap if path not in regular), None)
            if once is not None:
                return once
        rows = ([gap[path] for gap in gaps if path in gap] for path in sorted(regular))
        return next(
            (path for path, row in zip(sorted(regular), rows, strict=True) if _drops(row)), ""
        )

    def _lengths_between(self, start: int, end: int) -> dict[str, int]:
        calls = self._others(start + 1, end)
        return {path: length for call in calls for path, length in call.lengths.items()}

    def _others(self, start: int, end: int) -> list[Outermost]:
        calls = self._calls[start:end]
        return [call for call in calls if not (call.is_inside and call.label in self._own)]


def _drops(lengths: Sequence[int]) -> bool:
    return lengths[0] > 1 and 1 in lengths[1:]


def _list_of(blocks: Sequence[str]) -> str:
    return blocks[0].rpartition(".")[0]


def _refusal(what: str, when: str) -> InvalidMeasurement:
    return InvalidMeasurement(
        f"{what} inside one generate() beside the prompt, {when}; expected one prompt: {ONE_EACH}"
    )
