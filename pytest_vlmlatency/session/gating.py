"""--vlm-gate in a run of pytest: when it judges, how the run ends, and where the report goes.

Owns the moments. It judges once every test is done, fixtures are torn down and workers have ended,
so that the devices are free for a confirmation; outputs are written before pytest writes its own.
What is judged and how is `judging`'s. The gate is the controller's: workers only measure.

What options and repository say about fresh pairs, and what opens them for a gate.

Owns the settings of a confirmation inside pytest. When a gate asks for pairs is `judging`'s, how
they are measured `confirmation`'s.
"""

from __future__ import annotations

import gc
import shlex
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed, VlmLatencyError
from pytest_vlmlatency.paired.arguments import invocation_of
from pytest_vlmlatency.paired.checkouts import default_paths
from pytest_vlmlatency.paired.git import repository_of
from pytest_vlmlatency.paired.pairs import FreshPairs, open_pairs
from pytest_vlmlatency.printing import print_line
from pytest_vlmlatency.session.command_line import said_in_ini, setting
from pytest_vlmlatency.session.delivery import inbox_of, parcel_on
from pytest_vlmlatency.session.keeping import home_of
from pytest_vlmlatency.session.measurement import status_line
from pytest_vlmlatency.session.settings import FIXTURE
from pytest_vlmlatency.session.stopping import is_early_stop, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_vlmlatency.records import GateReport, Run
    from pytest_vlmlatency.report.gate_ci import SourceLine
    from pytest_vlmlatency.session.gate_outputs import Written


JUDGED = frozenset(
    {
        pytest.ExitCode.OK,
        pytest.ExitCode.TESTS_FAILED,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    }
)
"""How pytest may end for the gate to have a say: not interrupted, misused or broken. Nor does it
where the run was stopped early: what was not reached may be slower, or not."""


class Gate:
    """Judges what an inbox collected; registered as a plugin of its own."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._inbox = inbox_of(config)
        self._report: GateReport | None = None
        self._written: Written | None = None
        self._sources: dict[str, SourceLine] = {}
        self._reached: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which tests were run, and where one that measures begins."""
        self._reached.add(report.nodeid)
        parcel = parcel_on(report)
        if parcel is not None and parcel["test"] not in self._sources:
            from pytest_vlmlatency.session.gate_outputs import source_of  # noqa: PLC0415 - light start-up

            self._sources[parcel["test"]] = source_of(report)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge once all tests are done, or were stopped; not where they were interrupted."""
        try:
            result = yield
        except (pytest.Session.Failed, KeyboardInterrupt) as end:
            if is_early_stop(end) and self._inbox.run() is not None:
                self._free_devices()
                self._report = stopped(self._judged(), str(end), self._unreached(session.items))
            raise
        if not self._config.getoption("collectonly", None):
            self._free_devices()
            self._report = self._judged()
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the report's outputs, and end the run with the gate's status."""
        if self._report is None:
            return
        from pytest_vlmlatency.session.gate_outputs import write_outputs  # noqa: PLC0415 - light start-up

        self._report = replace(self._report, accept_as=self._accept_as(self._report))
        self._written = write_outputs(self._config, self._report, self._sources)
        if session.exitstatus not in JUDGED or self._report.stopped_because is not None:
            return
        if self._report.status:
            session.exitstatus = int(self._report.status)
        elif self._written.problems:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the gate's section below the table."""
        if self._report is None or self._written is None:
            print_line(
                terminalreporter,
                "--vlm-gate: nothing was judged, since the run did not reach its end.",
                red=True,
            )
            return
        from pytest_vlmlatency.session.gate_outputs import print_gate  # noqa: PLC0415 - light start-up

        print_gate(terminalreporter, self._report, self._written, self._sources)

    def _judged(self) -> GateReport:
        from pytest_vlmlatency.gate.gate import not_applied  # noqa: PLC0415 - imports scipy

        run = self._inbox.run()
        is_strict = bool(self._setting("--vlm-strict"))
        if run is None:
            return not_applied(self._why_nothing_was_measured(), is_strict=is_strict)
        try:
            return self._judge(run, is_strict=is_strict)
        except VlmLatencyError as problem:
            return not_applied(str(problem), is_strict=is_strict)

    def _judge(self, run: Run, *, is_strict: bool) -> GateReport:
        from pytest_vlmlatency.gate.gate import (  # noqa: PLC0415 - imports scipy
            GateRequest,
            NoHistory,
            judge_run,
        )
        from pytest_vlmlatency.session.keeping import history_of, home_of  # noqa: PLC0415 - as above

        ref = self._setting("--vlm-baseline")
        request = GateRequest(
            root=home_of(self._config),
            today=datetime.now(UTC).date(),
            ref=None if ref is None else str(ref),
            is_strict=is_strict,
            is_fail_fast=bool(self._setting("--vlm-fail-fast")),
            imported=tuple(sorted(self._inbox.imported)),
            is_skipping_unchanged=bool(self._setting("--vlm-skip-unchanged")),
            say=sayer(self._config),
        )
        history = history_of(self._config) or NoHistory()
        try:
            opener = pairs_opener(self._config)
        except NotConfirmed as problem:
            request = replace(request, no_pairs_because=str(problem))
            return judge_run(run, history, request, open_pairs=None)
        return judge_run(run, history, request, open_pairs=opener)

    def _accept_as(self, report: GateReport) -> str:
        """Return what names this run to `vlmlatency accept`: a verdict file can be carried about.

        A run of uncommitted changes cannot be measured again, so that its stored times are needed.
        """
        from pytest_vlmlatency.session.keeping import history_of  # noqa: PLC0415 - light start-up

        header, verdict = report.candidate, self._config.getoption("vlm_verdict", None)
        if header is None:
            return ""
        is_committed = header.commit is not None and not header.commit.is_dirty
        if verdict is not None and is_committed:
            return shlex.quote(str(verdict))
        history = history_of(self._config)
        is_kept = history is not None and not history.is_readonly
        return header.id if is_kept else "FILE (of --vlm-verdict FILE)" if is_committed else ""

    def _why_nothing_was_measured(self) -> str:
        from pytest_vlmlatency.session.settings import off_because  # noqa: PLC0415 - light start-up

        if option := off_because(self._config):
            return f"measuring is off ({option}), and a gate needs a measurement"
        if self._inbox.lost:
            return f"all cases were lost with their workers: {', '.join(self._inbox.lost)}"
        return "nothing was measured: no test that was run uses vlm_latency, or none of them passed"

    def _unreached(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        measuring = (item for item in items if FIXTURE in getattr(item, "fixturenames", ()))
        return [item for item in measuring if item.nodeid not in self._reached]

    def _setting(self, name: str) -> object:
        from pytest_vlmlatency.session.command_line import setting  # noqa: PLC0415 - light start-up

        return setting(self._config, name)

    def _free_devices(self) -> None:
        """End the workers' processes, which hold the devices' memory as long as they live.

        They have finished their tests and torn down their fixtures by now; pytest-xdist ends them
        in pytest_sessionfinish, which is too late, and ends none twice.
        """
        workers = getattr(self._config.pluginmanager.get_plugin("dsession"), "nodemanager", None)
        if workers is not None:
            workers.teardown_nodes()


TIME_LIMIT_S = 600.0


class PairsOpener:
    """Opens fresh pairs of the working tree against one commit after the other.

    All of them share one time limit.
    """

    def __init__(self, config: pytest.Config, root: Path) -> None:
        self._root = root
        self._invocation = invocation_of(config)
        self._paths = _paths(config, root)
        self._setup = setting(config, "--vlm-confirm-setup")
        limit_s = setting(config, "--vlm-confirm-time")
        self._left_s = TIME_LIMIT_S if limit_s is None else float(str(limit_s))
        self._say = sayer(config)
        self._bar = status_line(config)

    def __call__(self, commit: str) -> AbstractContextManager[FreshPairs]:
        """Open pairs against a commit; NotConfirmed where it cannot be checked out."""
        return self._opened(commit)

    @contextmanager
    def _opened(self, commit: str) -> Iterator[FreshPairs]:
        free_memory()
        opened = open_pairs(
            self._root,
            baseline=commit,
            setup=None if self._setup is None else str(self._setup),
            paths=self._paths,
            invocation=self._invocation,
            time_limit_s=self._left_s,
            say=self._say,
            bar=self._bar,
        )
        with opened as pairs:
            try:
                yield pairs
            finally:
                self._left_s = max(self._left_s - pairs.confirmation().time_s, 0.0)


def pairs_opener(config: pytest.Config) -> PairsOpener:
    """Return what opens fresh pairs for this run; NotConfirmed says why there can be none."""
    if config.getoption("vlm_no_confirm", None):
        raise NotConfirmed("--vlm-no-confirm")
    is_asked = config.getoption("vlm_confirm", None)
    if not is_asked and said_in_ini(config, "--vlm-confirm") is False:
        raise NotConfirmed("vlm_confirm is false in the ini file")
    return PairsOpener(config, repository_of(home_of(config)))


def free_memory() -> None:
    """Let go of what this process still holds on devices, for the processes that come now.

    Fixtures are torn down by now; the error of a failed test may still hold its model, by its
    frames. Where no test used torch here, as beside workers, it is not imported for this.
    """
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _paths(config: pytest.Config, root: Path) -> Sequence[str]:
    said = setting(config, "--vlm-confirm-path")
    assert said is None or isinstance(said, list), "an option of several values"
    return said or default_paths(root, config.rootpath)


def sayer(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints a line of progress, where there is a terminal's report."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return lambda _line: None
    return lambda line: print_line(reporter, line)
