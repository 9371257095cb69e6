"""One launch: a fresh pytest in one checkout, which measures a few rounds and tells what it did.

Owns the command line, the environment and the end of the process. What came back is checked here:
a launch that measured nothing, or ran other code than its checkout's, is an error.

What pytest's arguments mean in the candidate's checkout: asked of a pytest that only collects.

Where a gate stands at the end of a pytest run, that run knows; `vlmlatency ab` has to ask.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.paired import observer
from pytest_vlmlatency.paired.arguments import Invocation, cached_in, with_model_found
from pytest_vlmlatency.paired.git import git, quiet_environment
from pytest_vlmlatency.paired.imports import imported_by
from pytest_vlmlatency.plain import run_of_json
from pytest_vlmlatency.printing import short_commit, without_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.paired.checkouts import Checkout, Checkouts
    from pytest_vlmlatency.records import Run


N_ROUNDS = 5
N_WARMUP_ROUNDS = 2
"""A short run and many fresh ones: what differs between processes is what is to be averaged."""

N_TOLD_LINES = 25
ENDED_TESTS = (0, 1, 5)  # pytest ran to its end: passed, some tests failed, or none was there
GRACE_S = 5.0
NO_INI = "pytest.ini"
"""An empty one, so that a project without any is not run with one that an old commit has."""

NOT_FOR_A_LAUNCH = (
    *("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"),
    *("PYTEST_XDIST_TESTRUNUID", "PYTEST_XDIST_AUTO_NUM_WORKERS", "COVERAGE_PROCESS_START"),
    *("COVERAGE_PROCESS_CONFIG", "COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE"),
)


class OutOfTime(Exception):
    """A launch that was ended because the time was over."""


class MeasuredNothing(NotConfirmed):
    """A launch whose tests all failed, or were not there: `failed` says for each why."""

    def __init__(self, problem: str, failed: Mapping[str, str]) -> None:
        super().__init__(problem)
        self.failed = failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What a launch came to. `failed` says for each test that was not measured why."""

    run: Run
    failed: Mapping[str, str]
    imported: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be launched: `tests` are named by their path from the repository's root."""

    checkout: Checkout
    other: Checkout
    working_tree: Path
    invocation: Invocation
    tests: tuple[str, ...]
    benchmark: frozenset[Path]
    scratch: Path

    def run(self, *, timeout_s: float) -> Launched:
        """Launch and wait; OutOfTime after `timeout_s`, NotConfirmed where it measured nothing."""
        told, run_file = self.scratch / "told.json", self.scratch / "run.json"
        asked = {"root": str(self.checkout.root), "tests": self.tests, "told": str(told)}
        (self.scratch / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        (self.scratch / NO_INI).write_text("[pytest]\n", encoding="utf-8")
        for file in (told, run_file):
            file.unlink(missing_ok=True)
        status, output = ended_process(
            self.command(), self.environment(), self.folder, self.scratch / "output", timeout_s
        )
        if status not in ENDED_TESTS or not told.is_file():
            raise NotConfirmed(self._told_of(f"ended with {_status(status)}", output))
        seen = json.loads(told.read_text(encoding="utf-8"))
        run = None
        if run_file.is_file():
            run = run_of_json(run_file.read_text(encoding="utf-8"))
        failed = {test: without_private(why) for test, why in seen["failed"].items()}
        measured = set() if run is None else {case.test for case in run.cases}
        for test in self.tests:
            if test not in measured:
                failed.setdefault(test, "it measured nothing")
        if run is None or not measured - failed.keys():
            reasons = "".join(f"\n{test}: {reason}" for test, reason in failed.items())
            raise MeasuredNothing(self._told_of("measured nothing", output) + reasons, failed)
        imported = imported_by(self.checkout, self.other, seen["modules"], self.benchmark)
        return Launched(run=run, failed=failed, imported=imported)

    @property
    def folder(self) -> Path:
        """The folder that pytest is called in: the same place as the user's, in the checkout."""
        return self.at(self.invocation.folder)

    def command(self) -> list[str]:
        """Return the command line."""
        files = dict.fromkeys(test.partition("::")[0] for test in self.tests)
        inifile = self.invocation.inifile
        options = (
            *("-p", observer.MODULE, observer.ASKED, str(self.scratch / "asked.json")),
            *("-c", str(self.scratch / NO_INI if inifile is None else self.at(inifile))),
            *("-o", "addopts="),
            *cached_in(self.scratch, self.invocation.options),
            *("--benchmark-storage", f"file://{self.scratch / 'benchmarks'}"),
            *("--rootdir", str(self.at(self.invocation.rootdir))),
            *("--confcutdir", str(self.at(self.invocation.rootdir))),
            *("--continue-on-collection-errors", "--color=no", "--tb=short", "-q", "-s"),
            *("--vlm-rounds", str(N_ROUNDS), "--vlm-warmup-rounds", str(N_WARMUP_ROUNDS)),
            *("--vlm-json", str(self.scratch / "run.json"), "--vlm-history", "none"),
        )
        paths = (str(self.checkout.root / file) for file in files)
        said = with_model_found(self.invocation.options, self.folder, self.invocation.folder)
        return [sys.executable, "-m", "pytest", *said, *options, *paths]

    def environment(self) -> dict[str, str]:
        """Return the user's variables, with the checkout's code before everything installed.

        No bytecode is written: a launch leaves no trace in the user's working tree. While pytest
        starts, git is given a copy of the index: pytest-benchmark asks it for a description of the
        commit, for which git writes the index anew (see `observer`).
        """
        kept = quiet_environment()
        for name in NOT_FOR_A_LAUNCH:
            kept.pop(name, None)
        said = [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
        inherited = [self.at(Path.cwd() / path) for path in said]
        paths = dict.fromkeys(str(path) for path in (*self.checkout.paths, *inherited))
        kept |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
        if not self.checkout.is_worktree:
            index = (
                self.checkout.root
                / git(self.checkout.root, "rev-parse", "--git-path", "index").strip()
            )
            kept[observer.INDEX] = str(shutil.copy2(index, self.scratch / "index"))
        return kept

    def at(self, path: Path) -> Path:
        """Return the place in this checkout of a path in the working tree; others stay."""
        real = Path(os.path.realpath(path))
        inside = real.is_relative_to(self.working_tree)
        return self.checkout.root / real.relative_to(self.working_tree) if inside else path

    def _told_of(self, what: str, output: Path) -> str:
        side, commit = self.checkout.side, short_commit(self.checkout.commit)
        tail = told_output(output)
        return f"the launch of the {side} ({commit}) {what}; the end of its output:\n{tail}"


def told_output(output: Path) -> str:
    """Return the end of what a process printed, as a block of a message."""
    text = output.read_text(encoding="utf-8", errors="replace")
    lines = without_private(text).splitlines()
    return "\n".join(f"    {line}" for line in lines[-N_TOLD_LINES:])


def ended_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    output: Path,
    limit_s: float,
) -> tuple[int, Path]:
    """Run to the end and return the status and the output; whatever ends it, ends its children."""
    folder.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _ended(process):
            try:
                return process.wait(timeout=limit_s), output
            except subprocess.TimeoutExpired:
                raise OutOfTime from None


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process and what it started: asked first, so that it frees its devices, then forced."""
    try:
        yield
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            deadline_s = time.monotonic() + GRACE_S
            while process.poll() is None and time.monotonic() < deadline_s:
                time.sleep(0.05)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


USAGE_ERROR = 4  # pytest's own statuses
NO_TESTS = 5
TIMEOUT_S = 600.0


def survey(
    checkouts: Checkouts, args: Sequence[str], *, folder: Path
) -> tuple[Invocation, tuple[str, ...], tuple[str, ...]]:
    """Return how pytest is called with these arguments, the tests that measure, and their imports.

    Those are the files of the modules that were imported to collect the tests.

    `folder` is where the user stands in his own working tree.
    """
    told = checkouts.scratch / "told.json"
    asked = {"root": str(checkouts.candidate.root), "tests": [], "told": str(told)}
    (checkouts.scratch / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    launch = Launch(
        checkout=checkouts.candidate,
        other=checkouts.baseline,
        working_tree=checkouts.working_tree,
        invocation=Invocation(options=(), folder=folder, rootdir=folder, inifile=None),
        tests=(),
        benchmark=frozenset(),
        scratch=checkouts.scratch,
    )
    own = ("-p", observer.MODULE, observer.ASKED, str(checkouts.scratch / "asked.json"))
    quiet = ("--collect-only", "-q")
    said = (*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *args)
    status, output = ended_process(
        [sys.executable, "-m", "pytest", *own, *quiet, *said],
        launch.environment(),
        launch.folder,
        checkouts.scratch / "output",
        TIMEOUT_S,
    )
    if status == USAGE_ERROR:
        raise UsageProblem(
            f"pytest does not understand {shlex.join(args)!r}:\n{told_output(output)}"
        )
    if status not in (0, NO_TESTS) or not told.is_file():
        raise NotConfirmed(f"pytest could not collect the tests:\n{told_output(output)}")
    seen = json.loads(told.read_text(encoding="utf-8"))
    if not seen["measuring"]:
        raise UsageProblem(
            f"no test that pytest collects with {shlex.join(args)!r} in "
            f"{short_commit(checkouts.candidate.commit)} uses the vlm_latency fixture; "
            f"name some behind --"
        )
    invocation = _invocation(seen, checkouts, folder)
    return invocation, tuple(seen["measuring"]), tuple(seen["modules"].values())


def _invocation(seen: dict[str, object], checkouts: Checkouts, folder: Path) -> Invocation:
    """Return what was told, as if it had been said in the user's own working tree."""

    def at_home(path: object) -> Path:
        real = Path(os.path.realpath(str(path)))
        root = checkouts.candidate.root
        inside = real.is_relative_to(root)
        return checkouts.working_tree / real.relative_to(root) if inside else real

    options, inifile = seen["options"], seen["inifile"]
    assert isinstance(options, list), "the observer tells a list"
    return Invocation(
        options=tuple(options),
        folder=folder,
        rootdir=at_home(seen["rootdir"]),
        inifile=None if inifile is None else at_home(inifile),
    )
