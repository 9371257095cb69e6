"""pytest's hooks, a few lines each, that call the modules which do the work.

Loaded whenever pytest starts, so nothing heavy is imported here before a test that measures is
collected. PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.session import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pytest_vlmlatency.fixture import VlmLatency
    from pytest_vlmlatency.models.load import LoadedModel
    from pytest_vlmlatency.session.measurement import Engine

FIXTURE = "vlm_latency"
FIXTURES = frozenset({FIXTURE, "vlm_model", "vlm_device"})
_MEASURES = pytest.StashKey[bool]()
"""Whether tests of this run measure, as far as that is known by now."""

_IN_USE = pytest.StashKey["VlmLatency"]()
"""The fixture of a test, however the test came by it: by an argument, or by `request`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and ini keys."""
    command_line.add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: Sequence[str]
) -> Generator[None]:
    """Give a worker its device before conftests run, and take --gpu if they left it free."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        from pytest_vlmlatency.machine.turns import choose_device  # noqa: PLC0415 - workers only

        named = early_config.known_args_namespace.vlm_device or early_config.getini("vlm_device")
        choose_device(os.environ, named=named)
    yield
    command_line.add_gpu_option(parser, args)


def pytest_configure(config: pytest.Config) -> None:
    """Check what was said, and register the marker; a controller of workers opens its inbox."""
    command_line.check_ini(config)
    command_line.check_outputs(config)
    config.addinivalue_line("markers", command_line.MARKER_LINE)
    is_gated = bool(config.getoption("vlm_gate")) and not hasattr(config, "workerinput")
    is_written = bool(config.getoption("vlm_json") or config.getoption("vlm_export"))
    if config.getoption("dist", "no") != "no" or is_written or is_gated:
        _open_inbox(config)
    if config.getoption("vlm_predict") is not None and not hasattr(config, "workerinput"):
        from pytest_vlmlatency.session import delivery, predicting  # noqa: PLC0415 - light start-up

        delivery.inbox_of(config).predict_with(predicting.open_forecast(config.option.vlm_predict))
    if is_gated:
        from pytest_vlmlatency.session.gating import Gate  # noqa: PLC0415 - light start-up

        config.pluginmanager.register(Gate(config), "vlmlatency-gate")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers and devices that cannot be, before any test runs."""
    if any(_may_measure(item) for item in items):
        from pytest_vlmlatency.session import collection  # noqa: PLC0415 - light start-up

        _open_inbox(config)
        collection.accept(config, items)
        config.stash[_MEASURES] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let no test begin, with the loading that its fixtures do, beside another's measurement.

    Of this run's own workers any test may disturb one; of a single process, those that measure.
    """
    is_beside = item.config.stash.get(_MEASURES, False) and "PYTEST_XDIST_WORKER" in os.environ
    if not is_beside and not _may_measure(item):
        return (yield)
    from pytest_vlmlatency.machine.turns import process_in, turns_folder  # noqa: PLC0415 - as above

    with process_in(turns_folder()).in_test(_shown_by(item.config)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that asked for the fixture and passed without measuring."""
    yield
    fixture = _fixture_of(item)
    if fixture is not None and not fixture.is_used:
        from pytest_vlmlatency.fixture import HOW_TO_CALL  # noqa: PLC0415 - loaded by now

        pytest.fail(
            f"the test asks for vlm_latency but never called it; measure with\n    {HOW_TO_CALL}\n"
            f"or leave the fixture out",
            pytrace=False,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show errors of ours at the test's own line, and put its cases on the report."""
    if call.excinfo is not None and not item.config.getoption("fulltrace"):
        from pytest_vlmlatency.session.measurement import end_at_the_caller  # noqa: PLC0415 - light

        end_at_the_caller(call.excinfo.value)
    report = yield
    fixture = _fixture_of(item)
    if fixture is not None:
        from pytest_vlmlatency.session.delivery import attach  # noqa: PLC0415 - light start-up

        attach(report, fixture)
        if report.when == "teardown":
            del item.stash[_IN_USE]
    return report


@pytest.fixture
def vlm_latency(
    request: pytest.FixtureRequest, benchmark: object, _vlm_engine: Engine
) -> VlmLatency:
    """Measure a model's generate() by phase: `vlm_latency(model.generate, **inputs)`."""
    from pytest_vlmlatency.session.measurement import build_fixture  # noqa: PLC0415 - light start-up

    item: pytest.Item = request.node
    fixture = build_fixture(item, benchmark, _vlm_engine)
    if not _may_measure(item):
        _accept_late(item)
    item.stash[_IN_USE] = fixture
    return fixture


@pytest.fixture(scope="session")
def vlm_model(pytestconfig: pytest.Config) -> LoadedModel:
    """Load the model that --vlm-model names, once; without one the test is skipped."""
    from pytest_vlmlatency.session.measurement import load_named_model  # noqa: PLC0415 - light start-up

    return load_named_model(pytestconfig)


@pytest.fixture(scope="session")
def vlm_device(pytestconfig: pytest.Config) -> str:
    """Return the device that --gpu or --vlm-device means, "cpu" without them."""
    from pytest_vlmlatency.session.settings import chosen_device  # noqa: PLC0415 - light start-up

    return chosen_device(pytestconfig) or "cpu"


@pytest.fixture(scope="session")
def _vlm_engine() -> Engine:
    from pytest_vlmlatency.measure import run  # noqa: PLC0415 - imports torch

    return run


def _shown_by(config: pytest.Config) -> Callable[[str], None]:
    def show(text: str) -> None:
        from pytest_vlmlatency.session.measurement import status_line  # noqa: PLC0415 - imports torch

        status = status_line(config)
        if status is not None:
            status.show(text)

    return show


def _open_inbox(config: pytest.Config) -> None:
    """Register what collects the cases, once, and not in a worker: that one only sends."""
    if not hasattr(config, "workerinput"):
        from pytest_vlmlatency.session.delivery import inbox_of  # noqa: PLC0415 - light start-up
        from pytest_vlmlatency.session.stopping import end_in_order  # noqa: PLC0415 - as above

        inbox_of(config)
        end_in_order(config)


def _accept_late(item: pytest.Item) -> None:
    """Do what is done for collected tests, for one that came by the fixture while it ran."""
    from pytest_vlmlatency.session import collection  # noqa: PLC0415 - light start-up

    _open_inbox(item.config)
    item.config.stash[_MEASURES] = True
    try:
        collection.check_collected(item.config, [item])
    except pytest.UsageError as problem:
        pytest.fail(str(problem), pytrace=False)


def _may_measure(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    return not FIXTURES.isdisjoint(names) or item.get_closest_marker(FIXTURE) is not None


def _fixture_of(item: pytest.Item) -> VlmLatency | None:
    return item.stash.get(_IN_USE, None)
