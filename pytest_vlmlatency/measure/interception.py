"""Stand between a called function and the model's generate(), for one call.

Owns finding the model behind a callable, and seeing generate() run exactly once inside it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem
from pytest_vlmlatency.measure.compilation import is_compiled
from pytest_vlmlatency.measure.hooks import replaced_method
from pytest_vlmlatency.measure.wrapping import generating_parts

__tracebackhide__ = True  # an error inside generate() points at the user's own code

Generate = Callable[..., object]
Handler = Callable[[Generate, Sequence[object], Mapping[str, object]], object]
"""Runs generate with the arguments that reached it, and returns its result."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is called in a round, and the model whose generate() it ends in.

    `bound_args` and `bound_kwargs` are a partial's, and join whatever else is given.
    """

    function: Generate
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    model: torch.nn.Module
    bound_args: tuple[object, ...] = ()
    bound_kwargs: Mapping[str, object] = field(default_factory=dict)


def find_target(
    generate: object, args: Sequence[object], kwargs: Mapping[str, object], model: object
) -> Target:
    """Return the function to call and its model: `model` if given, else the method's own."""
    if not callable(generate):
        raise UsageProblem(
            f"expected something to call, such as model.generate, but got {generate!r}"
        )
    function: Generate = generate
    bound_args: tuple[object, ...] = ()
    bound_kwargs: Mapping[str, object] = {}
    while isinstance(function, functools.partial):
        bound_args = (*function.args, *bound_args)
        bound_kwargs = {**function.keywords, **bound_kwargs}
        function = function.func
    found = model if model is not None else getattr(function, "__self__", None)
    if not isinstance(found, torch.nn.Module):
        raise UsageProblem(
            f"cannot tell which model {_name(generate)} runs; expected a method of the model, such "
            f"as model.generate, or model=: pedantic({_name(generate)}, model=model, ...)"
        )
    found = _as_written(found)
    _check_generate(found)
    return Target(function, tuple(args), kwargs, found, bound_args, bound_kwargs)


def _check_generate(model: torch.nn.Module) -> None:
    if not callable(getattr(model, "generate", None)):
        inside = ", ".join(map(repr, generating_parts(model)))
        raise UsageProblem(
            f"the model {type(model).__name__} has no generate(); expected a model that generates: "
            f"pass the module that owns generate() as model="
            + (f"; inside it, {inside} has one" if inside else "")
        )
    if is_compiled(model.generate):
        raise UsageProblem(
            f"generate() of {type(model).__name__} itself is compiled, and nothing can be seen "
            f"inside compiled code; expected generate() as it is, around compiled parts: compile "
            f"the model's forward, its decoder or the decoder's blocks"
        )


def call_target(
    target: Target, args: Sequence[object], kwargs: Mapping[str, object], handler: Handler
) -> object:
    """Call the function with the model's generate() led through `handler`; it must run once."""
    original: Generate = target.model.generate  # type: ignore[assignment]  # a method, not a module
    n_calls = n_finished = 0
    is_running = False

    @functools.wraps(original)
    def intercepted(*inner_args: object, **inner_kwargs: object) -> object:
        nonlocal n_calls, n_finished, is_running
        if is_running:
            return original(*inner_args, **inner_kwargs)
        n_calls += 1
        if n_calls > 1:
            raise InvalidMeasurement(
                f"{_name(target.function)} called generate() more than once; expected once: its "
                f"times would be of several prompts. Measure each call in a test of its own"
            )
        is_running = True
        try:
            output = handler(original, inner_args, inner_kwargs)
            n_finished += 1
            return output
        finally:
            is_running = False

    with replaced_method(target.model, "generate", intercepted):
        function = intercepted if target.function == original else target.function
        output = function(*args, **kwargs)
    if not n_calls:
        inside = ", ".join(map(repr, generating_parts(target.model)))
        raise InvalidMeasurement(
            f"{_name(target.function)} returned without calling {type(target.model).__name__}"
            f".generate(); expected one call: either model= is another model, or the function "
            f"keeps its own reference to generate: let it call model.generate"
            + (f". Parts of it generate, too: {inside}; pass that one as model=" if inside else "")
        )
    if n_finished < n_calls:
        raise InvalidMeasurement(
            f"{_name(target.function)} returned, but generate() had not: it raised and the error "
            f"was swallowed, or it was still running on another thread; expected it to be "
            f"finished: let errors through, and join the thread"
        )
    return output


def _as_written(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model inside what `torch.compile(model)` gave: its generate() runs that one."""
    inner = model._modules.get("_orig_mod")
    return inner if inner is not None and is_compiled(model.forward) else model


@contextmanager
def prompted_once(model: torch.nn.Module) -> Iterator[None]:
    """Raise at the end if a part's own generate() ran more than once: a prompt each time."""
    n_calls: Counter[str] = Counter()
    with ExitStack() as undo:
        for path, module in model.named_modules():
            method = getattr(module, "generate", None)
            if path and callable(method):
                counted = _counted(method, functools.partial(n_calls.update, [path]))
                undo.enter_context(replaced_method(module, "generate", counted))
        yield
    again = [path for path, n in n_calls.items() if n > 1]
    if again:
        raise InvalidMeasurement(
            f"{again[0]}.generate() ran {n_calls[again[0]]} times inside one generate(); expected "
            f"once: the phases would be of several prompts. Measure each in a call of its own"
        )


def _counted(method: Generate, count: Callable[[], None]) -> Generate:
    @functools.wraps(method)
    def generate(*args: object, **kwargs: object) -> object:
        count()
        return method(*args, **kwargs)

    return generate


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or getattr(function, "__name__", function))
