"""What the fixtures hand out, put together from the session's options and the test.

Owns the names that a test's cases get, and how the user's model is loaded; loaded when the first
test that measures is set up.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.case_ids import id_of, steady_name
from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.fixture import VlmLatency
from pytest_vlmlatency.history.location import repository_root
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.printing import printable_lines
from pytest_vlmlatency.report.progress import StatusLine
from pytest_vlmlatency.session import settings
from pytest_vlmlatency.session.keeping import home_of
from pytest_vlmlatency.session.measurement import MeasurementInTurn

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.models.load import LoadedModel
    from pytest_vlmlatency.session.measurement import Engine

LONGEST_PARAM = 60  # characters of a parameter that a table or a file can still show


def build_fixture(item: pytest.Item, benchmark: object, engine: Engine) -> VlmLatency:
    """Return the fixture of one test; `benchmark` is marked as used, since ours stands for it."""
    if hasattr(benchmark, "_mode"):
        benchmark._mode = "vlm_latency"
    measurement = MeasurementInTurn(
        engine=engine,
        identity=identify(item),
        is_disabled=settings.is_disabled(item.config),
        status=status_line(item.config),
    )
    return VlmLatency(measurement, layers=settings.layers_of(item))


def load_named_model(config: pytest.Config) -> LoadedModel:
    """Return the model of --vlm-model on the chosen device; skip the test if none was named."""
    choice = settings.model_choice(config)
    if choice is None:
        pytest.skip(
            "no model was named: give --vlm-model a hub id, a folder or dummy:NAME, "
            "or set vlm_model in the ini file"
        )
    from pytest_vlmlatency.models.load import load_model  # noqa: PLC0415 - imports transformers

    try:
        return load_model(
            choice.name,
            device=choice.device,
            dtype=choice.dtype,
            attn=choice.attn,
            compile=choice.compile,
            trust_remote_code=choice.trust_remote_code,
        )
    except VlmLatencyError as error:
        problem = str(error)
    pytest.fail("\n".join(printable_lines(f"--vlm-model: {problem}")), pytrace=False)


def status_line(config: pytest.Config) -> StatusLine | None:
    """Return the line that shows progress, None where nobody watches: no terminal, or -q."""
    plugins = config.pluginmanager
    reporter: pytest.TerminalReporter | None = plugins.get_plugin("terminalreporter")
    capture = plugins.get_plugin("capturemanager")
    if reporter is None or not reporter.isatty or config.get_verbosity() < 0:
        return None
    return StatusLine(
        reporter,
        width=config.get_terminal_writer().fullwidth,
        uncaptured=nullcontext if capture is None else capture.global_and_fixture_disabled,
    )


def identify(item: pytest.Item) -> Identity:
    """Name a test by its path from the repository that pytest runs in, so that history finds it."""
    root = home_of(item.config)
    test = id_of(item, root)
    worker = getattr(item.config, "workerinput", {}).get("workerid")
    return Identity(
        id=test,
        name=steady_name(item),
        test=test,
        params=plain_params(item),
        worker=worker,
        former_id=_former_id(item, root, test),
    )


def _former_id(item: pytest.Item, root: Path, test: str) -> str | None:
    """Return the id that versions up to 0.1 gave a test, None if it is the same or not its alone.

    They named a test from the innermost repository around it, so that tests of two submodules, or
    of a submodule and the repository around it, had the same id where their paths were the same.
    """
    own = repository_root(item.path.parent) or item.config.rootpath
    inside, _, rest = item.nodeid.partition("::")
    is_inside = item.path.is_relative_to(own)
    path = item.path.relative_to(own).as_posix() if is_inside else inside
    former = f"{path}::{rest}" if rest else path
    others = (folder for folder in (root, *_repositories_in(root)) if folder != own)
    is_shared = any((folder / path).is_file() for folder in others)
    return None if former == test or is_shared else former


@cache
def _repositories_in(root: Path) -> tuple[Path, ...]:
    """Return the folders of a repository's submodules."""
    try:
        text = (root / ".gitmodules").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(root / path.strip() for path in re.findall(r"^\s*path\s*=\s*(.+)$", text, re.M))


def plain_params(item: pytest.Item) -> dict[str, str]:
    """Return the parameters of a test as pytest shows them in its name: by ids= where it was given.

    A value may hold what must not be stored, and ids are what its author wants to be read.
    """
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return {}
    ids = list(getattr(callspec, "_idlist", ()))  # one for each mark; most have one parameter
    if len(ids) != len(callspec.params):
        ids = [callspec.id] * len(callspec.params)
    return {
        name: _as_text(value, f"{name}{callspec.indices.get(name, 0)}", str(shown))
        for (name, value), shown in zip(callspec.params.items(), ids, strict=True)
    }


def _as_text(value: object, unnamed: str, shown: str) -> str:
    """Return a value as its id, or a part of it, shows it; the type of one that it does not show.

    `unnamed` is the id that pytest gives an object, `shown` the test's.
    """
    own = _own_id(value)
    if f"-{unnamed if own is None else own}-" not in f"-{shown}-":
        text = shown
    elif own is not None:
        text = value if isinstance(value, str) else own
    else:
        is_numbers = isinstance(value, tuple) and all(isinstance(n, int | float) for n in value)
        text = repr(value) if is_numbers else type(value).__name__
    is_stable = len(text) <= LONGEST_PARAM and " at 0x" not in text
    return text if is_stable else type(value).__name__


def _own_id(value: object) -> str | None:
    """Return the id that pytest makes of a value itself, None for an object."""
    if isinstance(value, str):
        return value.encode("unicode_escape").decode("ascii")
    if value is None or isinstance(value, int | float | complex | Enum):
        return str(value)
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else None
