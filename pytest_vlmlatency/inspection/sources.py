"""What MODEL names, made ready to be called: a model that is loaded here, or a user's function.

Owns the step from a name to the call that will be looked at.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image, UnidentifiedImageError

from pytest_vlmlatency.calls.interception import Target, find_target
from pytest_vlmlatency.errors import ModelNotLoaded, UsageProblem
from pytest_vlmlatency.inspection.request import DEFAULT_NEW_TOKENS, DEFAULT_PROMPT
from pytest_vlmlatency.inspection.user_function import call_user_function, is_user_function
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import LoadedModel, load_model
from pytest_vlmlatency.models.shapes import DUMMY_SHAPES, PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_vlmlatency.inspection.request import Loading, Request

PHOTOGRAPH = "coffee"
EXPECTED = (
    "expected (model, inputs), inputs being what model.generate(**inputs) takes, or "
    "(model.generate, kwargs); inputs and kwargs are mappings, or functions that return a fresh "
    "one for each call"
)
PROCESSOR_ERRORS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a processor raises that does not take a picture and a prompt in the usual way."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A call to look at. `setup` makes fresh arguments for each call where the user's do.

    `n_images` is None where the user made the inputs: tensors do not say how many images they are.
    """

    target: Target
    description: str
    n_images: int | None
    setup: Callable[[], object] | None = None


def open_source(request: Request) -> Source:
    """Load the model, or call the user's function; raise where there is nothing to look at."""
    if is_user_function(request.source):
        given = request.loading.given
        if given:
            raise UsageProblem(
                f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for a model that is "
                f"loaded here; {request.source} makes its own: set it there"
            )
        return _from_function(request)
    return _from_loaded(request)


def _from_loaded(request: Request) -> Source:
    loading = request.loading
    images = _pictures(loading.images)
    loaded = _load(request.source, loading)
    prompt = DEFAULT_PROMPT if loading.prompt is None else loading.prompt
    try:
        inputs = loaded.prepare(images, prompt)
    except PROCESSOR_ERRORS as error:
        raise ModelNotLoaded(
            f"{request.source} was loaded, but its {type(loaded.processor).__name__} could not "
            f"make inputs of a picture and a prompt: {type(error).__name__}: {error}. Make them "
            f"in a function of your own: vlmlatency inspect path.py:function"
        ) from error
    kwargs = {**inputs, "max_new_tokens": request.max_new_tokens or DEFAULT_NEW_TOKENS}
    return Source(
        target=find_target(loaded.model.generate, (), kwargs, None),
        description=loaded.description,
        n_images=len(images),
    )


def _load(name: str, loading: Loading) -> LoadedModel:
    try:
        return load_model(
            name,
            device=loading.device or "cpu",
            dtype=loading.dtype or "auto",
            attn=loading.attn,
            trust_remote_code=bool(loading.trust_remote_code),
        )
    except ModelNotLoaded as problem:
        if name not in DUMMY_SHAPES:
            raise
        raise ModelNotLoaded(f"{problem} Did you mean {PREFIX}{name}?") from problem


def _pictures(files: Sequence[Path] | None) -> list[Image.Image]:
    if files is None:
        try:
            return [photograph(PHOTOGRAPH)]
        except UsageProblem as problem:
            raise UsageProblem(f"{problem}; or give a picture of your own: --image FILE") from None
    return [_picture(file) for file in files]


def _picture(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except UnidentifiedImageError as error:
        raise UsageProblem(f"--image {file}: it is no picture that Pillow can read") from error


def _from_function(request: Request) -> Source:
    made = call_user_function(request.source)
    if not (isinstance(made, tuple | list) and len(made) == 2):
        raise _unexpected(request.source, _described(made))
    subject, inputs = made
    if not (isinstance(inputs, Mapping) or callable(inputs)):
        raise _unexpected(request.source, f"({_described(subject)}, {_described(inputs)})")
    generate = generate_of(subject, request.source)
    lengths = _Lengths(
        n_asked=request.max_new_tokens,
        n_default=DEFAULT_NEW_TOKENS if isinstance(subject, torch.nn.Module) else None,
        is_taken=takes_lengths(generate),
    )
    is_fresh = not isinstance(inputs, Mapping)
    return Source(
        target=find_target(generate, (), {} if is_fresh else lengths.added_to(inputs), None),
        description="a model of that function's own",
        n_images=None,
        setup=_setup(inputs, lengths, request.source) if is_fresh else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Lengths:
    """How many tokens a call makes: as asked here, else as the call says, else a few."""

    n_asked: int | None
    n_default: int | None
    is_taken: bool

    def added_to(self, kwargs: Mapping[str, object]) -> dict[str, object]:
        named = {str(name): value for name, value in kwargs.items()}
        if self.n_asked is not None:
            return {**named, "max_new_tokens": self.n_asked}
        if self.n_default is None or not self.is_taken:
            return named
        return {"max_new_tokens": self.n_default, **named}


def _setup(make: Callable[[], object], lengths: _Lengths, source: str) -> Callable[[], object]:
    def fresh() -> object:
        made = make()
        if not isinstance(made, Mapping):
            raise UsageProblem(
                f"the function of inputs from {source} returned {_described(made)}; expected a "
                f"mapping of arguments of generate()"
            )
        return (), lengths.added_to(made)

    return fresh


def generate_of(subject: object, source: str, *, expected: str = EXPECTED) -> Callable[..., object]:
    """Return what a user's function returned as a generate(): a model's, or a method of one."""
    if isinstance(subject, torch.nn.Module):
        generate = getattr(subject, "generate", None)
        if not callable(generate):
            raise UsageProblem(
                f"{source} returned a {type(subject).__name__}, which has no generate(); expected "
                f"a model that generates, or the generate() of the module inside that does"
            )
        own: Callable[..., object] = generate
        return own
    function = subject
    while isinstance(function, functools.partial):
        function = function.func
    if not callable(function) or not isinstance(
        getattr(function, "__self__", None), torch.nn.Module
    ):
        raise UsageProblem(f"{source} returned ({_described(subject)}, ...); {expected}")
    assert callable(subject), "a partial of a method, or the method"
    return subject


def takes_lengths(generate: Callable[..., object]) -> bool:
    """Whether a generate() can be given max_new_tokens."""
    parameters = inspect.signature(generate).parameters.values()
    return any(
        parameter.kind is parameter.VAR_KEYWORD or parameter.name == "max_new_tokens"
        for parameter in parameters
    )


def _unexpected(source: str, got: str) -> UsageProblem:
    return UsageProblem(f"{source} returned {got}; {EXPECTED}")


def _described(value: object) -> str:
    if isinstance(value, tuple | list) and value:
        return f"({', '.join(type(item).__name__ for item in value)})"
    return type(value).__name__
