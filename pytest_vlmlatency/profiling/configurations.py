"""The configurations of a profile, from a JSON file: a list of them, or a grid."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.knobs import MolmoeConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KNOBS = tuple(MolmoeConfiguration.__dataclass_fields__)
EXPECTED = (
    f"expected a list of objects, or one object of lists (a grid), with the knobs "
    f"{', '.join(KNOBS)}"
)


def read_configurations(path: Path | None) -> tuple[MolmoeConfiguration | None, ...]:
    """Return the configurations of a file in order, each once; without a file, the model as it is.

    Raises UsageProblem for a file that says anything else.
    """
    if path is None:
        return (None,)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise UsageProblem(f"--configs {path} cannot be read: {problem}; {EXPECTED}") from problem
    values = _grid(path, said) if isinstance(said, dict) else said
    if not isinstance(values, list) or not values:
        raise UsageProblem(f"--configs {path} holds no configuration; {EXPECTED}")
    found = [_configuration(path, one) for one in values]
    twice = next((one for index, one in enumerate(found) if one in found[:index]), None)
    if twice is not None:
        raise UsageProblem(f"--configs {path} has {twice.name} twice; expected each once")
    return tuple(found)


def _grid(path: Path, said: Mapping[str, object]) -> list[dict[str, object]]:
    lists = {}
    for name, values in said.items():
        if not isinstance(values, list):
            raise UsageProblem(f"--configs {path}: {name} is {values!r}; {EXPECTED}")
        lists[name] = values
    return [dict(zip(lists, one, strict=True)) for one in product(*lists.values())]


def _configuration(path: Path, said: object) -> MolmoeConfiguration:
    if not isinstance(said, dict) or not said:
        raise UsageProblem(f"--configs {path} holds {said!r}; {EXPECTED}")
    unknown = sorted(set(said) - set(KNOBS))
    if unknown:
        raise UsageProblem(f"--configs {path}: unknown knob {', '.join(unknown)}; {EXPECTED}")
    try:
        return MolmoeConfiguration(**said)
    except UsageProblem as problem:
        raise UsageProblem(f"--configs {path}: {problem}") from problem
