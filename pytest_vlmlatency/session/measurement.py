"""One test's measurement: the engine, alone on its devices, or left out when disabled.

Owns when measuring may begin, and that `--benchmark-disable` measures nothing. How to measure is
the engine's, what a test may ask is `fixture`'s.

What the fixtures hand out, put together from the session's options and the test.

Owns the names that a test's cases get, and how the user's model is loaded; loaded when the first
test that measures is set up.

Errors of ours, shown at the line of the test that they are about.

What such an error has to say is in its message; how this package came to raise it helps nobody who
reads a test's report. `--full-trace` shows it all.
"""

from __future__ import annotations

import re
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Protocol

import pytest

from pytest_vlmlatency.calls.clock import model_devices
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.case_ids import id_of, steady_name
from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.fixture import VlmLatency
from pytest_vlmlatency.history.location import repository_root
from pytest_vlmlatency.machine.turns import alone_with
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.printing import printable_lines
from pytest_vlmlatency.report.progress import StatusLine
from pytest_vlmlatency.session import settings
from pytest_vlmlatency.session.keeping import home_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from pytest_vlmlatency.models.load import LoadedModel


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.fixture import Work
    from pytest_vlmlatency.measure.rounds import Measured
    from pytest_vlmlatency.options import Configuration, Options

    Generate = Callable[..., object]
    Progress = Callable[[str], None]

__tracebackhide__ = True


class Engine(Protocol):
    """What measures: the module `measure.run`, or a stand-in."""

    def measure(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
        progress: Progress | None,
    ) -> Measured:
        """Warm up, repeat and stop; return the last output and the case."""

    def measure_interleaved(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        configs: Sequence[Configuration],
        options: Options,
        identity: Identity,
        progress: Progress | None,
    ) -> tuple[Measured, ...]:
        """Measure cases that differ only in their configuration, a round of each in turn."""

    def run_once(
        self,
        generate: Generate,
        *,
        args: Sequence[object],
        kwargs: Mapping[str, object] | None,
        options: Options,
        identity: Identity,
    ) -> Measured:
        """Call once, and measure nothing."""


class Status(Protocol):
    """Where progress is shown, such as a terminal's last line."""

    def show(self, text: str) -> None:
        """Show how far the measurement is."""

    def clear(self) -> None:
        """Take away what was shown."""


class MeasurementInTurn:
    """Measures for one test, alone on the devices of its model."""

    def __init__(
        self,
        *,
        engine: Engine,
        identity: Identity,
        is_disabled: bool = False,
        status: Status | None = None,
    ) -> None:
        self.identity = identity
        self.waited_ms = 0.0
        self.devices: tuple[torch.device, ...] = ()
        self._engine = engine
        self._is_disabled = is_disabled
        self._status = status
        self._progress = None if status is None else status.show

    def run(self, work: Work, options: Options) -> Measured:
        """Measure one case; when disabled, call once."""
        if self._is_disabled:
            return self._once(work, options)
        with self._turn(work, options):
            return self._engine.measure(
                work.generate,
                args=work.args,
                kwargs=work.kwargs,
                options=options,
                identity=self.identity,
                progress=self._progress,
            )

    def run_interleaved(
        self, work: Work, configs: Sequence[Configuration], options: Options
    ) -> tuple[Measured, ...]:
        """Measure a case for each configuration; when disabled, call once for each."""
        if self._is_disabled:
            return tuple(self._once(work, replace(options, config=config)) for config in configs)
        with self._turn(work, options):
            return self._engine.measure_interleaved(
                work.generate,
                args=work.args,
                kwargs=work.kwargs,
                configs=configs,
                options=options,
                identity=self.identity,
                progress=self._progress,
            )

    def _once(self, work: Work, options: Options) -> Measured:
        return self._engine.run_once(
            work.generate,
            args=work.args,
            kwargs=work.kwargs,
            options=options,
            identity=self.identity,
        )

    @contextmanager
    def _turn(self, work: Work, options: Options) -> Iterator[None]:
        target = find_target(work.generate, work.args, work.kwargs or {}, options.model)
        self.devices = model_devices(target.model)
        with alone_with(self.devices, progress=self._progress) as waited_ms:
            self.waited_ms += waited_ms
            try:
                yield
            finally:
                if self._status is not None:
                    self._status.clear()


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


PACKAGE = "pytest_vlmlatency"


def end_at_the_caller(error: BaseException) -> None:
    """Cut the last frames off an error of ours, up to the one that called this package."""
    if not isinstance(error, VlmLatencyError):
        return
    last: TracebackType | None = None
    entry = error.__traceback__
    while entry is not None:
        if not _is_ours(entry):
            last = entry
        entry = entry.tb_next
    if last is not None:
        last.tb_next = None


def _is_ours(entry: TracebackType) -> bool:
    module = str(entry.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] == PACKAGE
