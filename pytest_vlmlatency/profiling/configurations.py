"""The configurations of a profile, from a JSON file: a list of them, or a grid.

They are made by a class: that of MolmoE's knobs, or the user's own.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, cast

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.export.writing import configuration_name
from pytest_vlmlatency.inspection.user_function import user_callable
from pytest_vlmlatency.models.knobs import MolmoeConfiguration

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.options import Configuration

Make = Callable[..., object]
METHODS = ("values", "apply", "read_back")


def read_configurations(
    path: Path | None, *, source: str | None = None
) -> tuple[Configuration | None, ...]:
    """Return the configurations of a file in order, each once; without a file, the model as it is.

    `source` names a class of the user's own that makes them, as path.py:Class. Raises UsageProblem
    for a file that says anything else.
    """
    if path is None:
        if source is not None:
            raise UsageProblem(
                f"--configuration {source} makes the configurations of --configs, which was not "
                f"given; expected both"
            )
        return (None,)
    make = (
        MolmoeConfiguration if source is None else user_callable(source, expected="path.py:Class")
    )
    said = _read(path, make)
    values = _grid(path, said, make) if isinstance(said, dict) else said
    if not isinstance(values, list) or not values:
        raise UsageProblem(f"--configs {path} holds no configuration; {_expected(make)}")
    found = [_configuration(path, one, make) for one in values]
    names = [configuration_name(one.values()) for one in found]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise UsageProblem(f"--configs {path} has {twice} twice; expected each once")
    return tuple(found)


def _expected(make: Make) -> str:
    knobs, _takes_others = _knobs(make)
    return (
        f"expected a list of objects, or one object of lists (a grid), with the knobs "
        f"{', '.join(knobs)}"
    )


def _knobs(make: Make) -> tuple[tuple[str, ...], bool]:
    """Return the names that a class takes, and whether it takes any other."""
    parameters = inspect.signature(make).parameters.values()
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        tuple(one.name for one in parameters if one.kind in named),
        any(one.kind is one.VAR_KEYWORD for one in parameters),
    )


def _read(path: Path, make: Make) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageProblem(
            f"--configs {path} cannot be read: {problem}; {_expected(make)}"
        ) from problem


def _grid(path: Path, said: Mapping[str, object], make: Make) -> list[dict[str, object]]:
    lists = {}
    for name, values in said.items():
        if not isinstance(values, list):
            raise UsageProblem(f"--configs {path}: {name} is {values!r}; {_expected(make)}")
        lists[name] = values
    return [dict(zip(lists, one, strict=True)) for one in product(*lists.values())]


def _configuration(path: Path, said: object, make: Make) -> Configuration:
    if not isinstance(said, dict) or not said:
        raise UsageProblem(f"--configs {path} holds {said!r}; {_expected(make)}")
    knobs, takes_others = _knobs(make)
    unknown = sorted(set(said) - set(knobs))
    if unknown and not takes_others:
        raise UsageProblem(
            f"--configs {path}: unknown knob {', '.join(unknown)}; {_expected(make)}"
        )
    try:
        made = make(**said)
    except (UsageProblem, TypeError, ValueError) as problem:
        raise UsageProblem(f"--configs {path}: {problem}") from problem
    missing = [name for name in METHODS if not callable(getattr(made, name, None))]
    if missing:
        raise UsageProblem(
            f"{getattr(make, '__name__', make)} has no {', '.join(f'{one}()' for one in missing)}; "
            f"expected a class with values(), apply(model) and read_back(model), as "
            f"pytest_vlmlatency.models.knobs.MolmoeConfiguration has them"
        )
    return cast("Configuration", made)
