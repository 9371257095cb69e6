"""The hooks of one call: exactly these are removed afterwards, and none may be left.

A module whose call is compiled (`Module.compile`) has its own hooks inside the compiled code, where
they do not fire. Ours go around that call instead. So they do around a method that stands for a
module.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.nn.modules import module as torch_modules
from torch.utils.hooks import RemovableHandle

from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    import torch

    Hook = Callable[..., object]
    Watch = Callable[..., None]

COMPILED_CALL = "_compiled_call_impl"
"""Where `Module.compile` keeps the compiled call, None without one."""

TOGETHER = " + "
"""Between the labels of methods that are one step together: the prompt's, and each token's."""


@contextmanager
def around_every_call(enter: Watch, leave: Watch) -> Iterator[None]:
    """Call `enter(module, args)` and `leave(module, args, kwargs, output)` around all module calls.

    torch's own remove() leaves a note that a hook took keyword arguments, and since 2.14 every
    later call of a module takes a slower way for it.
    """
    before = torch_modules.register_module_forward_pre_hook(enter)
    after = torch_modules.register_module_forward_hook(leave, with_kwargs=True, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
        torch_modules._global_forward_hooks_with_kwargs.pop(after.id, None)


class Handles:
    """Registers hooks while it is entered, and removes them on the way out."""

    def __init__(self) -> None:
        self._hooks: list[tuple[torch.nn.Module, RemovableHandle | _Together]] = []
        self._around_calls: dict[tuple[torch.nn.Module, str], _AroundCall] = {}

    def __enter__(self) -> Handles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        left = self._remove()
        if left and kind is None:
            raise InvalidMeasurement(
                f"{len(left)} of our hooks stayed on the model ({', '.join(sorted(set(left)))}); "
                f"expected none after a call: its forward copies or replaces its own hook tables, "
                f"so hooks may fire more or less often than the model runs"
            )

    def pre(self, module: torch.nn.Module, hook: Hook) -> int:
        """Call `hook(module, args, kwargs)` before each forward; return its number for `drop`."""
        if getattr(module, COMPILED_CALL, None) is None:
            handle = module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
        else:
            handle = self._around(module, COMPILED_CALL).add(before=hook)
        self._hooks.append((module, handle))
        return len(self._hooks) - 1

    def post(self, module: torch.nn.Module, hook: Hook) -> int:
        """Call `hook(module, args, output)` after each forward; return its number for `drop`."""
        if getattr(module, COMPILED_CALL, None) is None:
            handle = module.register_forward_hook(hook)
        else:
            handle = self._around(module, COMPILED_CALL).add(after=hook)
        self._hooks.append((module, handle))
        return len(self._hooks) - 1

    def pre_of(self, model: torch.nn.Module, label: str, hook: Hook) -> int:
        """Call a hook before each forward of a module, or each call of a method, by its label."""
        return self._of(model, label, before=hook)

    def post_of(self, model: torch.nn.Module, label: str, hook: Hook) -> int:
        """Call a hook after each forward of a module, or each call of a method, by its label."""
        return self._of(model, label, after=hook)

    def _of(
        self,
        model: torch.nn.Module,
        label: str,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
    ) -> int:
        owner, name = part_of(model, label)
        if not name:
            return self.pre(owner, before) if before else self.post(owner, after or _nothing)
        around = [self._around(*part_of(model, part)) for part in parts_of_label(label)]
        handle = _Together([one.add(before=before, after=after) for one in around])
        self._hooks.append((owner, handle))
        return len(self._hooks) - 1

    def drop(self, number: int) -> None:
        """Remove one hook now; it may remove itself while it runs."""
        self._hooks[number][1].remove()

    def _around(self, module: torch.nn.Module, name: str) -> _AroundCall:
        if (module, name) not in self._around_calls:
            self._around_calls[module, name] = _AroundCall(module, name)
        return self._around_calls[module, name]

    def _remove(self) -> list[str]:
        """Remove all; return the modules whose tables, copied or replaced meanwhile, kept one."""
        left = []
        for module, handle in self._hooks:
            handle.remove()
            if isinstance(handle, _Together):
                continue
            for table in (module._forward_pre_hooks, module._forward_hooks):
                if table.pop(handle.id, None) is not None:
                    left.append(type(module).__name__)
        for around in self._around_calls.values():
            around.take_off()
        return left


def parts_of_label(label: str) -> list[str]:
    """Return the labels of the methods that one label names together, or the label alone."""
    return label.split(TOGETHER)


def part_of(model: torch.nn.Module, label: str) -> tuple[torch.nn.Module, str]:
    """Return the module at a label and "", or the module of a method and the method's name.

    Of methods that are named together, those of the first.
    """
    label = parts_of_label(label)[0]
    try:
        return model.get_submodule(label), ""
    except AttributeError:
        path, _, name = label.rpartition(".")
        return model.get_submodule(path), name


def _nothing(*_: object) -> None: ...


class _Together:
    """The hooks on several methods, removed as one."""

    def __init__(self, handles: list[RemovableHandle]) -> None:
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


class _AroundCall:
    """Stands in for a method of a module, or its compiled call, with hooks before and after it."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self._module = module
        self._name = name
        self._is_own = name in vars(module)
        self._call: Hook = getattr(module, name)
        if name != COMPILED_CALL:
            functools.update_wrapper(self, self._call)  # generate() inspects signatures
        self._before: dict[int, Hook] = OrderedDict()
        self._after: dict[int, Hook] = OrderedDict()
        vars(module)[name] = self

    def add(self, *, before: Hook | None = None, after: Hook | None = None) -> RemovableHandle:
        hooks, hook = (self._before, before) if before else (self._after, after)
        assert hook is not None, "one of the two is given"
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def take_off(self) -> None:
        if vars(self._module).get(self._name) is self:
            del vars(self._module)[self._name]
            if self._is_own:
                vars(self._module)[self._name] = self._call

    def __call__(self, *args: object, **kwargs: object) -> object:
        for hook in reversed(tuple(self._before.values())):  # the last one first, as on a module
            hook(self._module, args, kwargs)
        output = self._call(*args, **kwargs)
        for hook in tuple(self._after.values()):
            hook(self._module, args, output)
        return output
