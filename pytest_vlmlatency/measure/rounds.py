"""Warm up, repeat, stop.

Cases that differ only in their configuration are measured in turn, a round of each: in sequence, a
drifting machine would tell them apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.clock import check_devices, clock_for, model_devices
from pytest_vlmlatency.machine.allocator import FlushWatch
from pytest_vlmlatency.machine.device_state import read_device_states
from pytest_vlmlatency.measure.case import Identity, finished_case
from pytest_vlmlatency.measure.isolation import quiet_machine, remember_random_state
from pytest_vlmlatency.measure.stopping import stop_reason
from pytest_vlmlatency.measure.subject import Subject
from pytest_vlmlatency.measure.timed import Rig

if TYPE_CHECKING:
    from pytest_vlmlatency.calls.clock import Clock
    from pytest_vlmlatency.calls.interception import Target
    from pytest_vlmlatency.options import Configuration, Options
    from pytest_vlmlatency.records import Case

__tracebackhide__ = True  # an error inside generate() points at the user's own code

MS_PER_S = 1000

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the called function returned last, and the case."""

    output: object
    case: Case


def measure_in_turn(
    target: Target,
    configs: Sequence[Configuration | None],
    options: Options,
    identity: Identity,
    clock: Clock | None,
    progress: Progress | None,
) -> tuple[Measured, ...]:
    """Warm every subject up, then give each a round in turn until all have stopped."""
    devices = model_devices(target.model)
    check_devices(devices, options.device)
    report = progress or _silent
    with quiet_machine(target, devices, options), FlushWatch() as watch:
        subjects = [
            Subject(
                target,
                options=options,
                config=config,
                clock=clock or clock_for(devices),
                rig=Rig(devices=devices, watch=watch, is_per_token=options.per_token),
                restore_random=remember_random_state(devices),
            )
            for config in configs
        ]
        for index, subject in enumerate(subjects):
            _warm_up(subject, report, f"{index + 1}/{len(subjects)}")
        before = read_device_states(devices)
        reasons = _repeat(subjects, options, report)
        after = read_device_states(devices)
        return tuple(
            Measured(
                subject.result,
                finished_case(
                    subject,
                    identity,
                    reason,
                    before=before,
                    after=after,
                ),
            )
            for subject, reason in zip(subjects, reasons, strict=True)
        )


def _warm_up(subject: Subject, report: Progress, which: str) -> None:
    n_calls = 0
    while not subject.is_warm:
        n_calls += 1
        report(f"case {which}: warm-up call {n_calls}")
        subject.warm_up()


def _repeat(subjects: Sequence[Subject], options: Options, report: Progress) -> list[str]:
    """Measure rounds in turn; return for each subject why it stopped."""
    start_s = time.perf_counter()
    reasons: dict[int, str] = {}
    while len(reasons) < len(subjects):
        for index, subject in enumerate(subjects):
            if index in reasons:
                continue
            elapsed_s = time.perf_counter() - start_s
            report(_progress_line(index, subjects, options, elapsed_s))
            subject.measure_round(started_ms=elapsed_s * MS_PER_S)
            reason = _stop_reason(subject, options, time.perf_counter() - start_s, len(subjects))
            if reason is not None:
                reasons[index] = reason
    return [reasons[index] for index in range(len(subjects))]


def _stop_reason(
    subject: Subject, options: Options, elapsed_s: float, n_subjects: int
) -> str | None:
    """Return why a subject is done: its rounds are full, or the stopping rule says so.

    The time limit is a case's, so cases measured in turn share that many times of it.
    """
    if options.rounds is not None:
        is_full = len(subject.calls) >= options.rounds
        return f"{options.rounds} rounds as asked" if is_full else None
    return stop_reason(
        subject.times_ms(),
        elapsed_s=elapsed_s,
        max_time_s=options.max_time_s * n_subjects,
        is_cpu=subject.is_on_cpu,
    )


def _progress_line(
    index: int, subjects: Sequence[Subject], options: Options, elapsed_s: float
) -> str:
    n_rounds = len(subjects[index].calls)
    of_all = f" of {options.rounds}" if options.rounds else ""
    case = f"case {index + 1}/{len(subjects)}: " if len(subjects) > 1 else ""
    each = f", {elapsed_s / n_rounds / len(subjects):.2f} s each" if n_rounds else ""
    return f"{case}round {n_rounds + 1}{of_all}{each}, {elapsed_s:.0f} s so far"


def _silent(_line: str) -> None:
    """Report to nobody."""
