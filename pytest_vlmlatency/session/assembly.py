"""What the fixtures hand out, put together from the session's options and the test.

Owns the names that a test's cases get, and how the user's model is loaded; loaded when the first
test that measures is set up.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.fixture import VlmLatency
from pytest_vlmlatency.history.location import repository_root
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.report.progress import StatusLine
from pytest_vlmlatency.session import settings
from pytest_vlmlatency.session.measurement import MeasurementInTurn

if TYPE_CHECKING:
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
    pytest.fail(f"--vlm-model: {problem}", pytrace=False)


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
    """Name a test by its path from the repository's root, so that history finds it again."""
    root = repository_root(item.path.parent) or item.config.rootpath
    inside, _, rest = item.nodeid.partition("::")
    path = item.path.relative_to(root).as_posix() if item.path.is_relative_to(root) else inside
    test = f"{path}::{rest}" if rest else path
    worker = getattr(item.config, "workerinput", {}).get("workerid")
    return Identity(id=test, name=item.name, test=test, params=plain_params(item), worker=worker)


def plain_params(item: pytest.Item) -> dict[str, str]:
    """Return the parameters of a test as text that is the same in every run."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else {k: _as_text(v) for k, v in callspec.params.items()}


def _as_text(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    is_stable = len(text) <= LONGEST_PARAM and " at 0x" not in text
    return text if is_stable else type(value).__name__
