"""Stand between a called function and the model's generate(), for one call.

Owns finding the model behind a callable, and seeing generate() run exactly once inside it.

Modules around a model: whose configuration is in force, and which of them generates.

A wrapper is told by its structure: it has no configuration, and all parameters are those of one
child. Owns looking through it; which methods are called, and when, is not its business.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch

from pytest_vlmlatency.calls.arguments import function_of
from pytest_vlmlatency.calls.compilation import is_compiled
from pytest_vlmlatency.calls.hooks import replaced_method
from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem

__tracebackhide__ = True  # an error inside generate() points at the user's own code

BATCHING = ("generate_batch", "init_continuous_batching")
FORWARDS = ("forward", "__call__", "_call_impl", "_wrapped_call_impl")
LIBRARIES = ("transformers.", "torch.")
PLAIN = (str, int, float, bool, type(None))

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
    check_callable(generate)
    function: Generate = generate  # type: ignore[assignment]  # checked
    inner, bound_args, bound_kwargs = _unbound(function)
    found = _model_of(inner) if model is None else _model_in(model)
    if not isinstance(found, torch.nn.Module):
        raise UsageProblem(
            f"cannot tell which model {_name(generate)} runs; expected a method of the model, such "
            f"as model.generate, or model=: pedantic({_name(generate)}, model=model, ...)"
        )
    found = _as_written(found)
    _check_generate(found)
    _check_method(inner, found)
    if function == found.generate:  # what lies over it is led through with it
        return Target(function, tuple(args), kwargs, found)
    return Target(inner, tuple(args), kwargs, found, bound_args, bound_kwargs)


def _unbound(function: Generate) -> tuple[Generate, tuple[object, ...], dict[str, object]]:
    """Return the function inside partial ones, and the arguments that they bring."""
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}
    while isinstance(function, functools.partial):
        args = (*function.args, *args)
        kwargs = {**function.keywords, **kwargs}
        function = function.func
    return function, args, kwargs


def _model_of(function: Generate) -> object:
    """Return the model that a method belongs to, or the only one that its object or names hold."""
    layer: object = function
    while layer is not None:
        if isinstance(getattr(layer, "__self__", None), torch.nn.Module):
            return layer.__self__  # type: ignore[attr-defined]  # just looked up
        layer = getattr(layer, "__wrapped__", None)
    if inspect.isfunction(function):
        names = inspect.getclosurevars(function)
        meant = [_model_in(value) for value in (*names.nonlocals.values(), *names.globals.values())]
        return _only_model(meant)
    owner = getattr(function, "__self__", None)
    return _model_in(function if owner is None else owner)


def _model_in(value: object) -> object:
    """Return a model, the one of its method, or the only one that an object (a pipeline) holds."""
    if isinstance(value, torch.nn.Module):
        return value
    owner = getattr(value, "__self__", None)
    if isinstance(owner, torch.nn.Module):
        return owner
    return _only_model(getattr(value, "__dict__", {}).values())


def _only_model(values: Iterable[object]) -> object:
    """Return the model that generates among values, None where there is none, or several."""
    found = {
        id(value): value
        for value in values
        if isinstance(value, torch.nn.Module) and callable(getattr(value, "generate", None))
    }
    return next(iter(found.values())) if len(found) == 1 else None


def check_callable(generate: object) -> None:
    """Raise where what is to be measured is no function that ends in one generate()."""
    if isinstance(generate, torch.nn.Module):
        raise UsageProblem(
            f"the model itself was passed, a {type(generate).__name__}; expected its method: "
            f"model.generate"
        )
    if isinstance(generate, type):
        raise UsageProblem(
            f"the class {generate.__name__} was passed; expected a method of a model, such as "
            f"model.generate"
        )
    if not callable(generate):
        shown = repr(generate) if isinstance(generate, PLAIN) else f"a {type(generate).__name__}"
        raise UsageProblem(
            f"expected something to call, such as model.generate, but got {shown}: pass the method "
            f"itself, and its arguments beside it, as in (model.generate, **inputs)"
        )
    _check_finishes(generate)


def _check_finishes(function: Generate) -> None:
    """Raise where a call would return before anything has run."""
    inner = _unbound(function)[0]
    for kind, is_kind in UNFINISHED.items():
        if is_kind(inner) or is_kind(inner.__call__):  # type: ignore[operator]  # an object's own
            raise UsageProblem(_unfinished(f"{_name(function)} is {kind}", kind))


UNFINISHED: Mapping[str, Callable[[object], bool]] = {
    "a coroutine function": inspect.iscoroutinefunction,
    "an async generator function": inspect.isasyncgenfunction,
    "a generator function": inspect.isgeneratorfunction,
}
RETURNED: Mapping[str, Callable[[object], bool]] = {
    "a coroutine": inspect.isawaitable,
    "an async generator": inspect.isasyncgen,
    "a generator": inspect.isgenerator,
}


def _unfinished(what: str, kind: str) -> str:
    how = "list(chat(...))" if kind.startswith("a generator") else "asyncio.run(chat(...))"
    return (
        f"{what}, which returns before anything is generated; expected a function that returns "
        f"when generate() has: pass one that runs it, as in pedantic(lambda: {how}, model=model)"
    )


def _check_returned(output: object, name: str) -> None:
    """Raise where a call returned what has yet to run."""
    for kind, is_kind in RETURNED.items():
        if is_kind(output):
            close = getattr(output, "close", None)
            if callable(close):
                close()  # without it, Python warns that it was never awaited
            raise UsageProblem(_unfinished(f"{name} returned {kind}", kind))


def _check_method(function: Generate, model: torch.nn.Module) -> None:
    """Raise for a method of the model that never ends in its generate()."""
    if getattr(function, "__self__", None) is not model:
        return
    name = str(getattr(function, "__name__", ""))
    if name in BATCHING:
        raise _batching(name)
    is_library = str(getattr(function_of(function), "__module__", "")).startswith(LIBRARIES)
    if name in FORWARDS or (is_library and name != "generate"):
        raise UsageProblem(
            f"{_name(function)} does not call generate(); expected a call with a prompt and its "
            f"tokens: pass model.generate"
        )


def _batching(name: str) -> UsageProblem:
    return UsageProblem(
        f"{name}() serves requests by continuous batching: prompts and tokens of several requests "
        f"share forwards, so no phase is one request's; expected model.generate, with inputs as a "
        f"batch and without a paged cache"
    )


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
    found: Generate = target.model.generate  # type: ignore[assignment]  # a method, not a module
    original, bound_args, bound_kwargs = _unbound(found)
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
            _check_returned(output, "generate()")
            n_finished += 1
            return output
        finally:
            is_running = False

    generate: Generate = intercepted
    if original != found:
        generate = functools.partial(intercepted, *bound_args, **bound_kwargs)
    with replaced_method(target.model, "generate", generate), _no_batching(target.model):
        function = target.function
        if function in (found, original):
            function = generate if function == found else intercepted
        output = function(*args, **kwargs)
    if not n_calls:
        _check_returned(output, _name(target.function))
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


@contextmanager
def _no_batching(model: torch.nn.Module) -> Iterator[None]:
    """Refuse continuous batching before it has run."""

    def refused(name: str, *_: object, **__: object) -> object:
        raise _batching(name)

    with ExitStack() as undo:
        for name in BATCHING:
            if callable(getattr(model, name, None)):
                undo.enter_context(replaced_method(model, name, functools.partial(refused, name)))
        yield


def _as_written(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model inside what `torch.compile(model)` gave: its generate() runs that one."""
    inner = model._modules.get("_orig_mod")
    return inner if inner is not None and is_compiled(model.forward) else model


def _name(function: object) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    own = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return str(own or type(function).__name__)


def configured_part(model: torch.nn.Module) -> torch.nn.Module:
    """Return the module whose `config` says what a model is: itself, or the one it wraps.

    The model itself where no module inside has all of its parameters and a configuration.
    """
    part: torch.nn.Module | None = model
    while part is not None:
        if getattr(part, "config", None) is not None:
            return part
        part = _wrapped(part)
    return model


def generating_parts(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the paths of the outermost modules inside a model that have a generate()."""
    found: list[str] = []
    for path, module in model.named_modules():
        is_inside = any(path.startswith(f"{outer}.") for outer in found)
        if path and not is_inside and callable(getattr(module, "generate", None)):
            found.append(path)
    return tuple(found)


def _wrapped(wrapper: torch.nn.Module) -> torch.nn.Module | None:
    """Return the child that has all of a module's parameters, None where they are spread."""
    parameters = {id(parameter) for parameter in wrapper.parameters()}
    for child in wrapper.children():
        if parameters and parameters == {id(parameter) for parameter in child.parameters()}:
            return child
    return None
