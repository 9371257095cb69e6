"""The generate() calls inside one generate(): whose loop runs, with what, and when each row ended.

Owns seeing them from outside, by wrappers that are there for one call: around the generate() of
every class that may be met, and around the criteria by which transformers' loops stop. A generate()
inside another is the same prompt handed on; a second one beside it is another prompt.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.generation import count_cached
from pytest_vlmlatency.calls.hooks import replaced_method
from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.calls.recorder import Recorder

    Generate = Callable[..., object]

GENERATION = "transformers.generation.utils"
CRITERIA = "transformers.generation.stopping_criteria"
END, LENGTH = "eos_token_id", "max_length"
"""What criteria of an end token, and of a length, have; transformers tells them so, too."""
MOST_BEHIND = 1
"""Where the check for the end lags behind (MPS), a loop runs one step that its output lacks."""
ONE_EACH = "the phases would be of several prompts. Measure each generate() in a call of its own"


@dataclass(slots=True, eq=False)
class GenerateCall:
    """One generate() inside the measured one: `module`'s, with the arguments that reached it.

    `n_cached` is what its cache held when it began. `has_inner`: another one ran inside.
    """

    module: object
    function: Generate
    args: Sequence[object]
    kwargs: Mapping[str, object]
    n_cached: int
    has_inner: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """What the criteria of a loop answered after a step, for each row, and the ids' width."""

    criteria: Sequence[object]
    width: int
    is_done: object


@dataclass(frozen=True, slots=True, kw_only=True)
class RowEnds:
    """What a loop's criteria answered: after each step, the ids' width and which rows are done.

    `has_padding`: rows that are done get padding from then on. `has_others`: something else than an
    end token or a length may end a row.
    """

    widths: tuple[int, ...]
    answers: tuple[object, ...]
    has_padding: bool
    has_others: bool

    def lengths(self, n_rows: int, n_columns: int) -> list[int] | None:
        """Return how many tokens each row was given, None where these are no rows of the output.

        `n_columns` is how many the longest row was given. In a beam search, the criteria judge
        beams, not rows.
        """
        answers = [torch.as_tensor(answer).flatten().tolist() for answer in self.answers]
        is_of_rows = all(len(answer) == n_rows for answer in answers)
        n_behind = self.n_steps - n_columns
        if not is_of_rows or not 0 <= n_behind <= MOST_BEHIND:
            return None
        if not self.has_padding:
            return [n_columns] * n_rows
        return [min(self._n_until_done(row), n_columns) for row in zip(*answers, strict=True)]

    @property
    def n_steps(self) -> int:
        """How many tokens the longest row was given."""
        return self.widths[-1] - self.widths[0] + 1

    def _n_until_done(self, row: Sequence[bool]) -> int:
        widths = (width for width, is_done in zip(self.widths, row, strict=True) if is_done)
        return next(widths, self.widths[-1]) - self.widths[0] + 1


@dataclass(slots=True)
class Loop:
    """What was seen of the generate() calls inside one generate(); `paths` name the modules."""

    paths: Mapping[object, str] = field(default_factory=dict)
    assistant: object = None
    calls: list[GenerateCall] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    problem: str = ""
    _open: list[GenerateCall] = field(default_factory=list)

    @property
    def innermost(self) -> GenerateCall | None:
        """The generate() that ran the loop, None where it is the measured one itself."""
        return self.calls[-1] if self.calls else None

    def row_ends(self) -> RowEnds | None:
        """Return what the criteria of the loop answered: those that answered last.

        An assistant's loops have criteria of their own, and end before.
        """
        if not self.stops:
            return None
        criteria = self.stops[-1].criteria
        own = [stop for stop in self.stops if stop.criteria is criteria]
        return RowEnds(
            widths=tuple(stop.width for stop in own),
            answers=tuple(stop.is_done for stop in own),
            has_padding=any(hasattr(it, END) for it in criteria),
            has_others=not all(hasattr(it, END) or hasattr(it, LENGTH) for it in criteria),
        )

    def check(self) -> None:
        """Raise InvalidMeasurement if more than one prompt was generated from."""
        beside = [call for call in self.calls if not call.has_inner]
        if len(beside) > 1:
            self.problem = self.problem or _many(Counter(map(self._name, beside)))
        if self.problem:
            raise InvalidMeasurement(f"{self.problem}: {ONE_EACH}")

    def is_assistants(self, module: object) -> bool:
        """Whether a module drafts for the loop that is running, or for the measured call."""
        return any(module is assistant for assistant in self._assistants())

    def is_in_assistant(self, module: torch.nn.Module) -> bool:
        """Whether a module is what drafts, or a part of it."""
        models = (it for it in self._assistants() if isinstance(it, torch.nn.Module))
        return any(module is part for model in models for part in model.modules())

    def _assistants(self) -> list[object]:
        given = (self.assistant, *(call.kwargs.get("assistant_model") for call in self._open))
        return [it for it in given if it is not None]

    def run(self, call: GenerateCall, recorder: Recorder | None) -> object:
        """Run a generate() inside the measured one, and note it."""
        for outer in self._open:
            outer.has_inner = True
        self.calls.append(call)
        self._open.append(call)
        is_late = recorder is not None and recorder.has_prompt
        try:
            output = call.function(*call.args, **call.kwargs)
        finally:
            self._open.remove(call)
        is_early = recorder is not None and not recorder.has_prompt
        if is_late or is_early:
            when = "began after" if is_late else "ended before"
            self.problem = self.problem or (
                f"{self._name(call)} {when} the prompt's logits were ready, inside one generate(); "
                f"expected one prompt"
            )
        return output

    def _name(self, call: GenerateCall) -> str:
        path = self.paths.get(call.module) or type(call.module).__name__
        return f"{path}.generate()"


@contextmanager
def watching_loop(
    model: torch.nn.Module, *, assistant: object = None, recorder: Recorder | None = None
) -> Iterator[Loop]:
    """Note the generate() calls, and the answers of their criteria, inside one generate()."""
    loop = Loop({module: path for path, module in model.named_modules()}, assistant)
    with ExitStack() as undo:
        for owner in _owners(model):
            counted = _counted(vars(owner)["generate"], owner, loop, recorder)
            undo.enter_context(replaced_method(owner, "generate", counted))
        criteria = getattr(sys.modules.get(CRITERIA), "StoppingCriteriaList", None)
        if criteria is not None:
            noted = _noted(criteria.__call__, loop)
            undo.enter_context(replaced_method(criteria, "__call__", noted))
        yield loop


def _owners(model: torch.nn.Module) -> list[torch.nn.Module | type]:
    """Return the classes, and the modules, that have a generate() of their own."""
    mixin = getattr(sys.modules.get(GENERATION), "GenerationMixin", None)
    modules = list(model.modules())
    classes = [cls for module in modules for cls in type(module).__mro__]
    found: list[torch.nn.Module | type] = [*modules, *classes]
    if mixin is not None:
        found.append(mixin)
    return list({id(it): it for it in found if _has_own_generate(it)}.values())


def _has_own_generate(owner: object) -> bool:
    method = vars(owner).get("generate")
    return isinstance(method, FunctionType) if isinstance(owner, type) else callable(method)


def _counted(function: Generate, owner: object, loop: Loop, recorder: Recorder | None) -> Generate:
    is_class = isinstance(owner, type)

    @functools.wraps(function)
    def generate(*args: object, **kwargs: object) -> object:
        module = args[0] if is_class and args else owner
        if loop.is_assistants(module):
            return function(*args, **kwargs)
        bound = functools.partial(function, module) if is_class else function
        given = args[1:] if is_class else args
        call = GenerateCall(module, bound, given, kwargs, count_cached(kwargs))
        return loop.run(call, recorder)

    return generate


def _noted(function: Callable[..., object], loop: Loop) -> Callable[..., object]:
    @functools.wraps(function)
    def answer(
        criteria: Sequence[object], ids: torch.Tensor, *args: object, **kwargs: object
    ) -> object:
        is_done = function(criteria, ids, *args, **kwargs)
        loop.stops.append(Stop(criteria, ids.shape[1], is_done))
        return is_done

    return answer


def _many(n_calls: Mapping[str, int]) -> str:
    name, n_most = max(n_calls.items(), key=lambda item: item[1])
    if n_most > 1:
        return f"{name} ran {n_most} times inside one generate(); expected once"
    return f"{' and '.join(n_calls)} ran inside one generate(); expected one of them"
