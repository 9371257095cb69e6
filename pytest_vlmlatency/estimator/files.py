"""Estimators as files: versioned JSON, read as data and never run; and the kinds of estimator.

A digest over the content detects a changed file. Every value is checked again when it is read, so
a file with a new digest and an impossible value is refused too.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar, cast

from cattrs import transform_error
from cattrs.preconf.json import make_converter

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.protocol import DECODE_STEP
from pytest_vlmlatency.estimator.state import State
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.estimator.inputs import Knob
    from pytest_vlmlatency.estimator.protocol import Estimator


FORMAT = "vlmlatency-estimator"
SCHEMA_VERSION = 2
WITHOUT_TOKENS = 1
"""The first version: its state has no counts of tokens."""

KEYS = ("format", "schema_version", "kind", "digest", "state", "model")

KINDS = {  # what a file may name, and where its class is: nothing else is ever imported for a file
    "roofline": ("pytest_vlmlatency.estimator.roofline", "RooflineEstimator"),
    "separate": ("pytest_vlmlatency.estimator.roofline", "SeparateEstimator"),
    "trees": ("pytest_vlmlatency.estimator.trees", "BoostedTreesEstimator"),
    "look-up": ("pytest_vlmlatency.estimator.lookup", "LookUpEstimator"),
    "network": ("pytest_vlmlatency.estimator.network", "LatencyEstimator"),
}

WEIGHTS_SUFFIX = ".safetensors"
N_DIGITS = 16  # of the digest, in the name of a file of weights
N_BYTES_OF_START = 4096  # the format is named there, also where another program sorted the keys

OF_A_RECIPE = ("network",)  # the kinds that may say decode / N, and may know no errors of their own

Plain = Mapping[str, object]
Read = TypeVar("Read")


class Loadable(Protocol):
    """What a variant offers so that its files can be read."""

    @classmethod
    def from_plain(cls, state: State | None, model: Plain, path: Path) -> Estimator:
        """Return the estimator of a file's content; `path` is where further files lie beside.

        The state is None, for kinds of a recipe, where a file's is null: it was never calibrated.
        """


def write_file(
    path: str | os.PathLike[str], *, kind: str, state: State | None, model: Plain
) -> None:
    """Write an estimator's file, whole or not at all."""
    content = {"state": None if state is None else to_plain(state), "model": dict(model)}
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "digest": _digest(kind, content),
        **content,
    }
    write_whole(Path(path), json.dumps(document, indent=1, allow_nan=False))


def remove_former_weights(path: Path) -> None:
    """Remove the weights of networks that this file held before, unless a file here names them.

    The caller holds the folder's lock: another process may have written weights and not yet the
    file that names them.
    """
    named = {_weights_named_in(beside) for beside in path.parent.iterdir()}
    for beside in weights_beside(path):
        if beside.name not in named:
            beside.unlink(missing_ok=True)


def weights_beside(path: Path) -> list[Path]:
    """Return the files of weights, today's and earlier ones, of an estimator's file."""
    digits = rf"(\.[0-9a-f]{{{N_DIGITS}}})?"
    own = re.compile(rf"{re.escape(path.name)}{digits}{re.escape(WEIGHTS_SUFFIX)}")
    return [beside for beside in path.parent.iterdir() if own.fullmatch(beside.name)]


def _weights_named_in(path: Path) -> str | None:
    """Return the name of the weights of an estimator's file, None if it is no such file."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(N_BYTES_OF_START)
            document = json.loads(start + file.read()) if FORMAT.encode() in start else {}
        return str(document["model"]["weights"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def load_estimator(path: str | os.PathLike[str], *, machine: str | None = None) -> Estimator:
    """Return the estimator of a file; with a `machine`, warn if it is of another.

    A file that is foreign, changed or of a later version is an error, and never runs code.
    """
    document = _read(Path(path))
    kind, state, model = document["kind"], document["state"], document["model"]
    if not isinstance(kind, str) or kind not in KINDS:
        _refuse(
            path, f"it holds an estimator of the kind {_shown(kind)}", f"one of {_named(KINDS)}"
        )
    is_whole = isinstance(state, dict) or (state is None and kind in OF_A_RECIPE)
    if not is_whole or not isinstance(model, dict):
        _refuse(path, "its state or model is no object", "both as `save` writes them")
    try:
        digest = _digest(kind, {"state": state, "model": model})
    except (ValueError, RecursionError) as error:  # an infinite number, or deep nesting
        _refuse(
            path, f"its content cannot be written again ({error})", "finite numbers", cause=error
        )
    if document["digest"] != digest:
        _refuse(
            path,
            f"its content has the digest {digest[:12]}..., not {_shown(document['digest'])}",
            "a file as `save` wrote it: this one was changed afterwards",
        )
    module, name = KINDS[kind]
    variant: Loadable = getattr(importlib.import_module(module), name)
    if isinstance(state, dict) and document["schema_version"] == WITHOUT_TOKENS:
        state = {**state, "tokens": {}}
    try:
        estimator = variant.from_plain(_state(kind, state), model, Path(path))
    except EstimatorProblem as error:
        _refuse(path, str(error), "values as `save` writes them")
    estimator.for_machine(machine)
    return estimator


def _state(kind: str, plain: object) -> State | None:
    if not isinstance(plain, dict):
        return None
    state = from_plain(State, plain)
    if kind not in OF_A_RECIPE and DECODE_STEP not in state.spreads:
        raise EstimatorProblem(f"its state is of {', '.join(state.spreads)}, as no {kind} has it")
    return state


def to_plain(value: object) -> dict[str, object]:
    """Return a frozen dataclass as JSON values."""
    plain = json.loads(json.dumps(_CONVERTER.unstructure(value), allow_nan=False))
    assert isinstance(plain, dict), "states and models are dataclasses"
    return plain


def from_plain(kind: type[Read], plain: Plain) -> Read:
    """Return a dataclass from JSON values; what would have to be converted is refused."""
    try:
        value = _CONVERTER.structure(plain, kind)
    except Exception as error:  # whatever the values break: cattrs wraps it
        raise EstimatorProblem("; ".join(transform_error(error, path="it")[:3])) from error
    if to_plain(value) != plain:
        raise EstimatorProblem(f"a value of {kind.__name__.lower()} is of the wrong type")
    return value


_CONVERTER = make_converter(forbid_extra_keys=True)


def _at(value: object, _declared: object) -> float | str | None:
    if value is None or isinstance(value, str | float):
        return value
    raise TypeError(f"expected a number, a string or null, not {type(value).__name__}")


_CONVERTER.register_structure_hook_func(lambda kind: kind == float | str | None, _at)


def _read(path: Path) -> Plain:
    try:
        document = json.loads(path.read_bytes(), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise EstimatorProblem(
            f"there is no file {path}; expected an estimator that `save` wrote"
        ) from error
    except OSError as error:
        raise EstimatorProblem(f"{path} cannot be read ({error}); expected a file") from error
    except (ValueError, RecursionError) as error:
        _refuse(path, f"it is not JSON ({error})", "an estimator's JSON file", cause=error)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        seen = (
            f"the format {_shown(document.get('format'))}"
            if isinstance(document, dict)
            else (f"a JSON {type(document).__name__}")
        )
        _refuse(path, f"it is {seen}", f"the format {FORMAT!r}")
    version = document.get("schema_version")
    if type(version) is not int or version not in (WITHOUT_TOKENS, SCHEMA_VERSION):
        _refuse(
            path,
            f"it is of schema version {_shown(version)}",
            f"version {WITHOUT_TOKENS} or {SCHEMA_VERSION}: install the version of "
            f"pytest-vlmlatency that wrote it",
        )
    if set(document) != set(KEYS):
        _refuse(path, f"it has the keys {_named(document)}", f"exactly {_named(KEYS)}")
    return document


def _digest(kind: str, content: Plain) -> str:
    text = json.dumps([kind, content], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse(
    path: str | os.PathLike[str], seen: str, expected: str, *, cause: Exception | None = None
) -> NoReturn:
    raise EstimatorProblem(
        f"{os.fspath(path)} is no estimator that can be trusted: {seen}; expected {expected}. "
        f"Fit one and `save` it again"
    ) from cause


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _named(names: Mapping[str, object] | tuple[str, ...]) -> str:
    return ", ".join(sorted(str(name)[:40] for name in names)[:12])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def maker_of(kind: str, *, knobs: Sequence[Knob] = ()) -> Callable[[], Estimator]:
    """Return what makes a new estimator of a kind with these knobs, else with its own defaults."""
    module, name = KINDS[kind]
    make = cast("Callable[..., Estimator]", getattr(import_module(module), name))
    return partial(make, knobs=knobs)
