"""Every sample under every configuration, measured and written down, until all are there.

How far a profile is, and how long it will still take: a line that a terminal keeps rewriting.

Where nobody watches (a log, a CI), a line a minute.
"""

from __future__ import annotations

import secrets
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.clock import clock_for, model_devices
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.errors import InvalidMeasurement, KnobNotApplied, RecordsProblem
from pytest_vlmlatency.export.fields import Refused
from pytest_vlmlatency.export.runs import record_of
from pytest_vlmlatency.export.writing import configuration_name
from pytest_vlmlatency.inspection.user_function import recorded_name
from pytest_vlmlatency.machine.commit import read_commit
from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.machine.turns import alone_with
from pytest_vlmlatency.measure.case import Identity, attention_of
from pytest_vlmlatency.measure.isolation import quiet_machine
from pytest_vlmlatency.measure.run import measure
from pytest_vlmlatency.options import merge_options
from pytest_vlmlatency.printing import has_terminal, warn
from pytest_vlmlatency.profiling.ledger import MODEL_NAME, Ledger
from pytest_vlmlatency.profiling.subject import open_subject
from pytest_vlmlatency.records import Run, fingerprint_of
from pytest_vlmlatency.report.progress import StatusLine, Stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.export.fields import Record
    from pytest_vlmlatency.options import Configuration
    from pytest_vlmlatency.profiling.dataset import Dataset, Sample
    from pytest_vlmlatency.profiling.subject import Subject
    from pytest_vlmlatency.records import Case, Scalar


ID_BYTES = 8
REFUSALS = (InvalidMeasurement, KnobNotApplied, Refused)
PROCESSOR_ERRORS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a processor raises that does not take a sample's pictures and prompt."""
MOST_REFUSED_FIRST = 20
"""A profile that refuses so many calls before it measured one will not measure any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured and how; a configuration of None is the model as it is."""

    model: str
    configurations: tuple[Configuration | None, ...]
    n_new_tokens: int
    rounds: int = 1
    measure: str = "wall_ms"
    threads: int | None = None
    device: str = "cpu"
    dtype: str = "auto"
    attn: str | None = None
    is_trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a profile came to: records of this time and of earlier ones, and refused calls."""

    n_new: int
    n_before: int
    n_refused: int


def sweep(plan: Plan, dataset: Dataset, folder: Path) -> Done:
    """Measure what is not in the folder yet; RecordsProblem if the folder is another profile's."""
    subject = open_subject(
        plan.model,
        device=plan.device,
        dtype=plan.dtype,
        attn=plan.attn,
        is_trusted=plan.is_trusted,
    )
    for configuration in plan.configurations:  # one that does not fit is refused before the first
        with configuration.apply(subject.model) if configuration else nullcontext():
            pass
    devices = model_devices(subject.model)
    run = Run(
        id=secrets.token_hex(ID_BYTES),
        started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        environment=read_environment(devices),
        commit=read_commit(Path.cwd()),
        cases=(),
    )
    identity = {
        MODEL_NAME: recorded_name(plan.model),
        "machine": fingerprint_of(run.environment),
        "measure": plan.measure,
        "dtype": subject.dtype,
        "attention": attention_of(subject.model),
        "device": clock_for(devices).device,
        "n_threads": _n_threads(plan, subject, devices),
    }
    n_new_tokens = {one.id: one.n_new_tokens or plan.n_new_tokens for one in dataset.samples}
    ledger = Ledger(folder, dataset.name, identity, n_new_tokens=n_new_tokens)
    with closing(ledger):
        sweeper = _Sweep(plan, dataset, run, subject, ledger)
        with alone_with(devices, progress=sweeper.progress.say):
            return sweeper.complete()


def _n_threads(plan: Plan, subject: Subject, devices: Sequence[torch.device]) -> int:
    """Return how many threads torch will have while the model is measured."""
    target = find_target(subject.generate, (), {}, None)
    options = merge_options({"threads": plan.threads}, source="profile")
    with quiet_machine(target, devices, options):
        return torch.get_num_threads()


class _Sweep:
    """One pass over what is missing."""

    def __init__(
        self, plan: Plan, dataset: Dataset, run: Run, subject: Subject, ledger: Ledger
    ) -> None:
        self._plan, self._dataset, self._run = plan, dataset, run
        self._subject, self._ledger = subject, ledger
        self._n_refused = 0
        self._n_before = ledger.n_records
        self._missing = list(self._what_is_missing())
        n_all = len(dataset.samples) * len(plan.configurations)
        self.progress = Progress(n_all, n_all - len(self._missing))

    def complete(self) -> Done:
        """Measure all that is missing, a sample after the other, configurations in turn."""
        for sample, configuration in self._missing:
            words = configuration_name(_values(configuration))
            self.progress.show(f"{words}, sample {sample.id}")
            try:
                records = self._measured(sample, configuration)
                self._ledger.add(records)
            except REFUSALS as problem:
                self._refuse(f"{words}, sample {sample.id}", problem)
            self.progress.done()
        self.progress.clear()
        return Done(
            n_new=self._ledger.n_records - self._n_before,
            n_before=self._n_before,
            n_refused=self._n_refused,
        )

    def _what_is_missing(self) -> Iterator[tuple[Sample, Configuration | None]]:
        """Yield what is to be measured; each sample begins with another configuration."""
        configurations = self._plan.configurations
        for index, sample in enumerate(self._dataset.samples):
            first = index % len(configurations)
            for configuration in (*configurations[first:], *configurations[:first]):
                if self._ledger.count(_values(configuration), sample.id) < self._plan.rounds:
                    yield sample, configuration

    def _measured(self, sample: Sample, configuration: Configuration | None) -> list[Record]:
        """Measure one sample under one configuration, as often as is missing."""
        images = sample.open_images()
        n_new_tokens = sample.n_new_tokens or self._plan.n_new_tokens
        n_held = self._ledger.count(_values(configuration), sample.id)

        def arguments() -> tuple[tuple[()], dict[str, object]]:
            """Make the inputs anew: a tier decides how an image is cut up."""
            try:
                inputs = self._subject.prepare(images, sample.prompt)
            except PROCESSOR_ERRORS as error:
                raise InvalidMeasurement(
                    f"the processor could not make inputs of it: {type(error).__name__}: {error}"
                ) from error
            return (), {**inputs, "max_new_tokens": n_new_tokens}

        name = f"{self._dataset.name}/{sample.id}"
        options = merge_options(
            {
                "setup": arguments,
                "rounds": self._plan.rounds - n_held,
                "config": configuration,
                "threads": self._plan.threads,
            },
            source="profile",
        )
        case = measure(
            self._subject.generate, options=options, identity=Identity(id=name, name=name)
        ).case
        case = replace(case, params={"dataset": self._dataset.name})
        sizes = [image.size for image in images]
        return [self._record(case, index, sample, sizes) for index in range(len(case.calls))]

    def _record(
        self, case: Case, index: int, sample: Sample, sizes: list[tuple[int, int]]
    ) -> Record:
        call = case.calls[index]
        record = record_of(self._run, case, index, call, measure=self._plan.measure)
        return record | {
            MODEL_NAME: recorded_name(self._plan.model),
            "sample": sample.id,
            "max_new_tokens": sample.n_new_tokens or self._plan.n_new_tokens,
            "contended_ratio": call.contended_ratio,
            "image_count": len(sizes),
            "image_width": max((width for width, _height in sizes), default=0),
            "image_height": max((height for _width, height in sizes), default=0),
        }

    def _refuse(self, what: str, problem: Exception) -> None:
        self._n_refused += 1
        seen = problem.seen if isinstance(problem, Refused) else str(problem)
        self.progress.say(f"refused: {what}: {seen}")
        nothing_new = self._ledger.n_records == self._n_before
        if nothing_new and self._n_refused >= MOST_REFUSED_FIRST:
            raise RecordsProblem(
                f"the first {self._n_refused} calls were all refused, the last because: {seen}"
            ) from problem


def _values(configuration: Configuration | None) -> Mapping[str, Scalar]:
    return {} if configuration is None else configuration.values()


LOGGED_EVERY_S = 60.0
S_PER_MIN, S_PER_H = 60, 3600


class Progress:
    """Counts the measurements of a profile: `n_all` in all, of which `n_before` were there."""

    def __init__(
        self, n_all: int, n_before: int, *, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._n_all, self._n_before, self._n_done = n_all, n_before, 0
        self._now_s = now_s
        self._start_s = now_s()
        self._logged_s = self._start_s - LOGGED_EVERY_S
        self._status = (
            StatusLine(Stderr(), width=get_terminal_size().columns, uncaptured=nullcontext)
            if has_terminal(sys.stderr)
            else None
        )

    def line(self, what: str) -> str:
        """Return how far it is: what is measured now, the share done, and the time left."""
        n_known = self._n_before + self._n_done
        share = 100 * n_known / self._n_all if self._n_all else 100
        return f"{n_known:,} of {self._n_all:,} ({share:.0f} %), {self._left()}: {what}"

    def show(self, what: str) -> None:
        """Show what is measured now."""
        if self._status is not None:
            self._status.show(self.line(what))
        elif self._now_s() - self._logged_s >= LOGGED_EVERY_S:
            self._logged_s = self._now_s()
            warn(self.line(what))

    def done(self) -> None:
        """Count one measurement, refused or not."""
        self._n_done += 1

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        warn(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.clear()

    def _left(self) -> str:
        if not self._n_done:
            return "time left not known yet"
        each_s = (self._now_s() - self._start_s) / self._n_done
        return f"{duration(each_s * (self._n_all - self._n_before - self._n_done))} left"


def duration(time_s: float) -> str:
    """Return a time as it is read: seconds, minutes, or hours and minutes."""
    if time_s < S_PER_MIN:
        return f"{time_s:.0f} s"
    minutes = round(time_s / S_PER_MIN)
    if minutes < S_PER_MIN:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"
