"""The hooks of one call: exactly these are removed afterwards, and none may be left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import torch

    Hook = Callable[..., object]


class Handles:
    """Registers hooks while it is entered, and removes them on the way out."""

    def __init__(self) -> None:
        self._hooks: list[tuple[torch.nn.Module, torch.utils.hooks.RemovableHandle]] = []

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
        handle = module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True)
        self._hooks.append((module, handle))
        return len(self._hooks) - 1

    def post(self, module: torch.nn.Module, hook: Hook) -> int:
        """Call `hook(module, args, output)` after each forward; return its number for `drop`."""
        self._hooks.append((module, module.register_forward_hook(hook)))
        return len(self._hooks) - 1

    def drop(self, number: int) -> None:
        """Remove one hook now; it may remove itself while it runs."""
        self._hooks[number][1].remove()

    def _remove(self) -> list[str]:
        """Remove all; return the modules whose tables, copied or replaced meanwhile, kept one."""
        left = []
        for module, handle in self._hooks:
            handle.remove()
            for table in (module._forward_pre_hooks, module._forward_hooks):
                if table.pop(handle.id, None) is not None:
                    left.append(type(module).__name__)
        return left
