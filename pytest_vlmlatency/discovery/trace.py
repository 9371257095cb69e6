"""One watched generate(): which module called which, on what, and in which order.

Owns collecting the call tree; `phases` reads it. Every module is hooked, so a traced call is slow
and never timed. The hooks fall silent after a few steps of the loop, and come off at the end.

Which tensors inside a model are the pixels that were passed to its generate().

Known by their memory or their sizes, or, where the model made them of the images by itself (it
resized, cut or padded them, or was given pictures), by what they are put into: a convolution over
as many channels.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from pytest_vlmlatency.calls.arguments import is_given_nothing
from pytest_vlmlatency.calls.generation import kind_of_filled_cache
from pytest_vlmlatency.calls.handles import Handles, parts_of_label
from pytest_vlmlatency.calls.hooks import FEATURE_METHODS, STEP_PREPARATION, replaced_method
from pytest_vlmlatency.calls.recorder import is_in_span
from pytest_vlmlatency.records import Phase

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from pytest_vlmlatency.calls.loop import Loop
    from pytest_vlmlatency.discovery.one_prompt import Outermost


STATE_DIMS = 3
"""Of (B, L, D)."""


@dataclass(slots=True, eq=False)
class Node:
    """One call of a module, or of a method (`method` is its name then).

    `is_features`: it is a method that gives vision's features. `takes_ids_alone`: all that it was
    given are whole numbers, which no features are. `is_given_nothing`: it works on no elements, as
    a tower does on no images. `ids` are the last of each row of ids that it was given. `sizes` are
    those of the first tensor that may be states (B, L, D), None without one, `length` is L, also
    where the states have further dimensions. `cache` is the kind of the cache that it was given, ""
    without one, or where that held nothing. `is_in_span`: a span of the user's own was around it.
    `together`: the label that it shares with the methods that it is named with.
    """

    path: str
    parent: Node | None
    index: int
    method: str | None = None
    pixels: tuple[Mark, ...] = ()
    is_features: bool = False
    takes_ids_alone: bool = False
    is_given_nothing: bool = False
    ids: tuple[int, ...] | None = None
    sizes: tuple[int, ...] | None = None
    length: int | None = None
    cache: str = ""
    has_logits: bool = False
    is_in_span: bool = False
    together: str | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def has_raw_pixels(self) -> bool:
        """Whether raw pixels came in; `pixels` tells equal ones from others."""
        return bool(self.pixels)

    @property
    def label(self) -> str:
        """The name of what was called: a module's path, and a method's name behind it."""
        if self.together is not None:
            return self.together
        return self.path if self.method is None else f"{self.path}.{self.method}".lstrip(".")


@dataclass(slots=True)
class Trace:
    """The calls of one generate(): `roots` were called by no traced module.

    `n_prepared` counts the prepare_inputs_for_generation calls by module path, `experts` is the
    experts implementation that was in force when the prompt, and when a decode step was prepared.
    `n_given` is how often each image was passed to generate(), by its mark. `foreign` are the
    modules that ran beside the model's own, each by its type with the index of the call that came
    next. `calls` are the outermost calls, and `loop` the generate() calls inside, of all of it,
    also beyond the steps that are traced.
    """

    roots: list[Node] = field(default_factory=list)
    n_nodes: int = 0
    n_prepared: dict[str, int] = field(default_factory=dict)
    experts: dict[str, str] = field(default_factory=dict)
    n_given: Counter[Mark] = field(default_factory=Counter)
    foreign: list[tuple[int, str]] = field(default_factory=list)
    is_done: bool = False
    calls: Sequence[Outermost] = ()
    loop: Loop | None = None

    def nodes(self) -> Iterator[Node]:
        """Yield every call, callers before callees."""
        for root in self.roots:
            yield from descend(root)


def ancestors(node: Node) -> Iterator[Node]:
    """Yield a call and its callers, innermost first."""
    at: Node | None = node
    while at is not None:
        yield at
        at = at.parent


def descend(node: Node) -> Iterator[Node]:
    """Yield a call and all that it called, in order."""
    yield node
    for child in node.children:
        yield from descend(child)


@contextmanager
def tracing(
    model: torch.nn.Module,
    pixels: Sequence[torch.Tensor],
    *,
    n_steps: int,
    methods: Sequence[str] = (),
    others: Sequence[str] = (),
    has_images: bool = True,
) -> Iterator[Trace]:
    """Trace the generate() that runs inside, for `n_steps` forwards of its loop.

    `pixels` are the raw tensors passed to it; it may have images in other forms, too, unless
    `has_images` is false. `methods` are traced as modules are, each by the path of its module and
    its name; those of `others` give no features. What is compiled must not run so: it hides its
    calls.
    """
    channels = {path: channels_of(module) for path, module in model.named_modules()}
    tracer = _Tracer(pixels, n_steps, methods, others, channels if has_images else {})
    with ExitStack() as undo:
        handles = undo.enter_context(Handles())
        for path, module in model.named_modules():
            handles.pre(module, functools.partial(tracer.enter, path))
            handles.post(module, tracer.leave)
            tracer.wrap_methods(module, path, undo)
        own = set(model.modules())
        undo.enter_context(without_hook_warning())
        watch = register_module_forward_pre_hook(functools.partial(tracer.meet, own))
        undo.callback(watch.remove)
        yield tracer.trace


@contextmanager
def without_hook_warning() -> Iterator[None]:
    """Leave out torch's warning that a hook on all modules fires twice for a compiled one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*when there are global hooks on modules")
        yield


class _Tracer:
    """Builds the tree while the model runs."""

    def __init__(
        self,
        pixels: Sequence[torch.Tensor],
        n_steps: int,
        methods: Sequence[str],
        others: Sequence[str],
        channels: Mapping[str, frozenset[int]],
    ) -> None:
        self.trace = Trace()
        self._n_traced = n_steps
        each = {part: label for label in others for part in parts_of_label(label)}
        self._together = {part: label for part, label in each.items() if part != label}
        self._methods = [method.rpartition(".")[::2] for method in (*methods, *each)]
        self._others = set(others) - set(methods)
        self._channels = channels
        self._recognition = Recognition(pixels)
        self.trace.n_given = self._recognition.n_given
        self._open: list[Node] = []
        self._n_steps: dict[str, int] = {}

    def enter(
        self, path: str, _module: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        if not self.trace.is_done or self._open:
            self._push(path, None, (*args, *kwargs.values()))

    def leave(self, _module: object, _args: object, output: object) -> None:
        if self._open:
            node = self._open.pop()
            node.has_logits = has_logits(output)
            if node.parent is None and node.has_logits:
                self._count_step(node.label)

    def meet(self, own: Set[torch.nn.Module], module: torch.nn.Module, _args: object) -> None:
        """Note a module with weights that is no part of the model, outside of the model's calls."""
        if self._open or self.trace.is_done or module in own or is_in_span():
            return
        is_drafting = self.trace.loop is not None and self.trace.loop.is_in_assistant(module)
        if has_weights(module) and not is_drafting:
            self.trace.foreign.append((self.trace.n_nodes, type(module).__name__))

    def wrap_methods(self, module: torch.nn.Module, path: str, undo: ExitStack) -> None:
        named = [name for owner, name in self._methods if owner == path]
        for name in dict.fromkeys((*FEATURE_METHODS, STEP_PREPARATION, *named)):
            method = getattr(module, name, None)
            if callable(method):
                if name == STEP_PREPARATION:
                    replacement = self._prepared(method, path, module)
                else:
                    replacement = self._features(method, path, name)
                undo.enter_context(replaced_method(module, name, replacement))

    def _features(
        self, method: Callable[..., object], path: str, name: str
    ) -> Callable[..., object]:
        @functools.wraps(method)
        def features(*args: object, **kwargs: object) -> object:
            if (self.trace.is_done and not self._open) or is_given_nothing(args, kwargs):
                return method(*args, **kwargs)
            self._push(path, name, (*args, *kwargs.values()))
            node = self._open[-1]
            node.is_features = node.label not in self._others
            output = method(*args, **kwargs)
            self.leave(None, None, output)
            return output

        return features

    def _prepared(
        self, method: Callable[..., object], path: str, module: torch.nn.Module
    ) -> Callable[..., object]:
        @functools.wraps(method)
        def prepare(*args: object, **kwargs: object) -> object:
            if not self.trace.is_done:
                self.trace.n_prepared[path] = self.trace.n_prepared.get(path, 0) + 1
                phase = Phase.PREFILL if self.trace.n_prepared[path] == 1 else Phase.DECODE
                self.trace.experts.setdefault(phase, experts_implementation(module))
            return method(*args, **kwargs)

        return prepare

    def _push(self, path: str, method: str | None, inputs: Sequence[object]) -> None:
        parent = self._open[-1] if self._open else None
        marks = self._recognition.marks(inputs, self._channels.get(path, ()))
        node = Node(path, parent, self.trace.n_nodes, method, marks)
        node.together = self._together.get(node.label)
        node.takes_ids_alone = are_ids(inputs)
        node.is_given_nothing = is_given_nothing(inputs, {})
        node.ids = _last_ids(inputs)
        node.sizes = _sizes_of_states(inputs)
        node.length = _length_of_states(inputs)
        node.cache = kind_of_filled_cache(inputs)
        node.is_in_span = is_in_span()
        self.trace.n_nodes += 1
        (parent.children if parent else self.trace.roots).append(node)
        self._open.append(node)

    def _count_step(self, path: str) -> None:
        self._n_steps[path] = self._n_steps.get(path, 0) + 1
        self.trace.is_done = self.trace.is_done or self._n_steps[path] >= self._n_traced


def _last_ids(inputs: Sequence[object]) -> tuple[int, ...] | None:
    tensors = (value for value in inputs if isinstance(value, torch.Tensor) and value.dim() == 2)
    ids = next((it for it in tensors if it.dtype in (torch.int64, torch.int32) and len(it)), None)
    return None if ids is None or not ids.shape[1] else tuple(ids[:, -1].tolist())


def _sizes_of_states(inputs: Sequence[object]) -> tuple[int, ...] | None:
    tensors = (value for value in inputs if isinstance(value, torch.Tensor))
    states = (it for it in tensors if it.is_floating_point() and it.dim() == STATE_DIMS)
    return next((tuple(it.shape) for it in states), None)


def _length_of_states(inputs: Sequence[object]) -> int | None:
    tensors = (value for value in inputs if isinstance(value, torch.Tensor))
    states = (it for it in tensors if it.is_floating_point() and it.dim() >= STATE_DIMS)
    return next((it.shape[1] for it in states), None)


def are_ids(inputs: Sequence[object]) -> bool:
    """Whether all that is given are whole numbers in tensors."""
    given = [value for value in inputs if value is not None]
    return bool(given) and all(
        isinstance(value, torch.Tensor) and not value.is_floating_point() for value in given
    )


def experts_implementation(model: torch.nn.Module) -> str:
    """Return how a model's experts are computed, "" where it has none or does not say."""
    read = getattr(model, "get_experts_implementation", None)
    found = read() if callable(read) else None
    if isinstance(found, Mapping):
        return ", ".join(sorted({str(value) for value in found.values() if value}))
    return str(found or "")


def has_weights(module: torch.nn.Module) -> bool:
    """Whether a module computes with weights of its own; to look up an embedding is no work."""
    is_embedding = isinstance(module, torch.nn.Embedding)
    return not is_embedding and any(True for _ in module.parameters())


def has_logits(output: object) -> bool:
    """Whether a module's output carries logits, as attribute or as key."""
    if isinstance(output, Mapping):
        return output.get("logits") is not None
    return getattr(output, "logits", None) is not None


Mark = tuple[float, ...]
"""Sizes but those of 1, and a sum weighted by position: equal marks, equal pixels."""
IMAGE_DIMS = 3
MAX_CHANNELS = 4
"""Of an image; features have more."""


class Recognition:
    """Knows pixels by their memory, or by their shape after a cast or a copy.

    `n_given` is how often each image was passed, by its mark.
    """

    def __init__(self, pixels: Sequence[torch.Tensor]) -> None:
        self._storages = {tensor.untyped_storage().data_ptr() for tensor in pixels}
        self._shapes = {tuple(tensor.shape) for tensor in pixels}
        self._images = {shape[-IMAGE_DIMS:] for shape in self._shapes if len(shape) >= IMAGE_DIMS}
        self._n_made = 0
        self.n_given = Counter(_mark(image) for tensor in pixels for image in _images_of(tensor))

    def marks(self, inputs: Sequence[object], channels: Container[int] = ()) -> tuple[Mark, ...]:
        """Return the mark of each tensor that is raw pixels, or some of them, or made of them.

        `channels` are those that convolutions of the module take which was given the tensors. What
        only they tell is like no other: whether the model made the same twice is unknown.
        """
        tensors = [value for value in inputs if isinstance(value, torch.Tensor) and value.numel()]
        known = tuple(_mark(tensor) for tensor in tensors if self._knows(tensor))
        if known or not any(_is_made_of_images(tensor, channels) for tensor in tensors):
            return known
        self._n_made += 1
        return ((float(self._n_made),),)

    def _knows(self, tensor: torch.Tensor) -> bool:
        shape = tuple(tensor.shape)
        if tensor.untyped_storage().data_ptr() in self._storages:
            return True
        is_alike = shape in self._shapes or shape[-IMAGE_DIMS:] in self._images
        return tensor.is_floating_point() and is_alike


def channels_of(module: torch.nn.Module) -> frozenset[int]:
    """Return how many channels of images the convolutions inside a module take."""
    convolutions = (torch.nn.Conv2d, torch.nn.Conv3d)
    taken = {it.in_channels for it in module.modules() if isinstance(it, convolutions)}
    return frozenset(n for n in taken if n <= MAX_CHANNELS)


def _is_made_of_images(tensor: torch.Tensor, channels: Container[int]) -> bool:
    is_stack = tensor.dim() > IMAGE_DIMS and tensor.is_floating_point()
    return is_stack and any(size in channels for size in tensor.shape[-IMAGE_DIMS - 1 : -2])


def _images_of(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what a model may encode by a call of its own: all of a batch, and each part of it."""
    if tensor.dim() <= IMAGE_DIMS or len(tensor) != 1:
        yield tensor
    if tensor.dim() > IMAGE_DIMS:
        for part in tensor:
            yield from _images_of(part)


def _mark(tensor: torch.Tensor) -> Mark:
    values = tensor.detach().cpu().double().flatten()  # MPS has no double
    weights = torch.arange(1, len(values) + 1, dtype=values.dtype)
    return (*(size for size in tensor.shape if size > 1), float(values @ weights))
