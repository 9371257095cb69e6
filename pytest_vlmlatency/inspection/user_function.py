"""`path.py:function`: import a user's file and call a function in it.

The file is run as `python path.py` would find its neighbours, under a name of its own, so that a
part under `if __name__ == "__main__"` stays quiet.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

WRITTEN = re.compile(r"(?P<file>.+\.py)(?::(?P<function>.*))?")


def is_user_function(source: str) -> bool:
    """Whether a MODEL is a Python file, with or without a function named behind it."""
    return WRITTEN.fullmatch(source) is not None


def recorded_name(source: str) -> str:
    """Return what files call a MODEL: one of this machine's by its name, without the way there."""
    written = WRITTEN.fullmatch(source)
    file = Path(source if written is None else written["file"]).expanduser()
    is_here = written is not None or source.startswith((".", "~")) or file.is_absolute()
    if not (is_here or os.path.exists(file)):  # noqa: PTH110 - what is too long does not exist
        return source
    function = written["function"] if written is not None else None
    return f"{file.resolve().name}:{function}" if function else file.resolve().name


def call_user_function(source: str) -> object:
    """Return what the function returns; an error of the user's own code is let through."""
    written = WRITTEN.fullmatch(source)
    assert written is not None, "is_user_function was asked first"
    file, name = Path(written["file"]).expanduser(), written["function"]
    function = user_callable(source)
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise UsageProblem(
            f"{name}() in {file} takes {', '.join(needed)}; expected a function that can be "
            f"called without arguments"
        )
    return function()


def user_callable(source: str, *, expected: str = "path.py:function") -> Callable[..., object]:
    """Return the function or class that `path.py:name` names; `expected` is how it is written."""
    written = WRITTEN.fullmatch(source)
    file = None if written is None else Path(written["file"]).expanduser()
    if written is None or file is None or not file.is_file():
        raise UsageProblem(f"there is no file {file or source}; expected {expected}")
    state = file.stat()
    module = _imported(file.resolve(), (state.st_mtime_ns, state.st_size))
    return _function(module, file, written["function"])


@functools.cache
def _imported(file: Path, _state: tuple[int, int]) -> ModuleType:
    """Import a file, once as long as it stays as it is: its classes are the same for all."""
    name = f"_vlmlatency_inspected_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    folder = str(file.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, file: Path, name: str | None) -> Callable[..., object]:
    found = vars(module).get(name or "")
    if callable(found):
        function: Callable[..., object] = found
        return function
    own = [
        key
        for key, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not key.startswith("_")
    ]
    listed = f"it has {', '.join(own)}" if own else "it has no functions"
    if not name:
        raise UsageProblem(f"{file} names no function; expected {file}:function; {listed}")
    near = get_close_matches(name, own, n=1)
    hint = f"; did you mean {file}:{near[0]}?" if near else f"; {listed}"
    seen = f"{name} in {file} is no function" if found is not None else f"{file} has no {name}"
    raise UsageProblem(f"{seen}{hint}")
