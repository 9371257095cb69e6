"""Timing bounds: whether one round was disturbed, and how many may be.

Pure. A disturbed round is discarded, kept in the file, and measured again; too many fail the case.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from statistics import median_low
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.allocator import FlushEvidence
from pytest_vlmlatency.records import CPU, DEVICE, WALL, Call, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.invariants import Observation

OTHER_FLOOR_MS = 5.0
OTHER_RATIO = 0.02
OTHER_TIMES_USUAL = 2.0
"""Bound of `other`, the largest of three: 5 ms, since medians of 1.5 to 1.8 ms were seen for
preamble and input preparation, 2 % of the total, and twice the case's own median."""
DEVICE_TOLERANCE_RATIO = 0.01
DEVICE_TOLERANCE_MS = 0.02
"""Host and device time of a span may differ by 1 % and 20 us for each of its two boundaries."""
DISCARD_RATIO = 0.10
"""More discarded rounds than this fail the case; a single one never does."""


def timing_problem(seen: Observation) -> str | None:
    """Return why a round was disturbed by what is seen of it alone, None if nothing is."""
    call = seen.call
    if seen.evidence is FlushEvidence.COLD:
        return seen.evidence.basis
    if seen.n_compiled:
        return f"torch.compile compiled {seen.n_compiled} frames inside the call"
    return _clocks_problem(call) if DEVICE in call.total else None


def judge_other(rounds: Sequence[Call], rehearsed: Call | None) -> list[Call]:
    """Return the rounds, with a reason where `other` took longer than what the case repeats.

    The case's own median is what it repeats. It is the lower one of two: with two rounds, the
    shorter `other`. A rehearsal counts beside the rounds.
    """
    undisturbed = [call for call in rounds if call.discarded_because is None]
    known = [*undisturbed, *([] if rehearsed is None else [rehearsed])]
    usual_ms = median_low([_other_ms(call)[1] for call in known]) if known else 0.0
    return [
        replace(call, discarded_because=call.discarded_because or _other_problem(call, usual_ms))
        for call in rounds
    ]


def is_other_long(call: Call) -> bool:
    """Whether `other` takes so long that a reader should know what it is."""
    measure, other_ms = _other_ms(call)
    return other_ms > bound_of_other_ms(call.total[measure], usual_ms=0.0)


def bound_of_other_ms(total_ms: float, *, usual_ms: float) -> float:
    """Return how long `other` may take in a call of so many ms of a case with such a median."""
    return max(OTHER_FLOOR_MS, OTHER_RATIO * total_ms, OTHER_TIMES_USUAL * usual_ms)


def _other_ms(call: Call) -> tuple[str, float]:
    """Return the measure that `other` is judged by, and its time.

    CPU time where the host computes: on wall time, busy neighbours break it. Wall time if that is
    less, since the CPU time of several threads counts waiting ones too.
    """
    times_ms = {
        measure: call.phase_time(Phase.OTHER, measure)
        for measure in (CPU, WALL)
        if measure in call.total
    }
    measure = min(times_ms, key=lambda name: times_ms[name])
    return measure, times_ms[measure]


def _other_problem(call: Call, usual_ms: float) -> str | None:
    measure, other_ms = _other_ms(call)
    bound_ms = bound_of_other_ms(call.total[measure], usual_ms=usual_ms)
    if other_ms <= bound_ms:
        return None
    return (
        f"other took {other_ms:.2f} {measure}, more than its bound of {bound_ms:.2f} where the "
        f"median is {usual_ms:.2f}"
    )


def _clocks_problem(call: Call) -> str | None:
    """Return where host and device time disagree, over intervals with devices idle at both ends."""
    for name, host_ms, device_ms in (
        ("total", call.total[WALL], call.total[DEVICE]),
        ("decode", call.decode_ms, call.phase_time(Phase.DECODE, DEVICE)),
    ):
        bound_ms = DEVICE_TOLERANCE_RATIO * host_ms + 2 * DEVICE_TOLERANCE_MS
        if abs(host_ms - device_ms) > bound_ms:
            return (
                f"{name} took {host_ms:.3f} ms by the host but {device_ms:.3f} ms by the device, "
                f"further apart than {bound_ms:.3f} ms"
            )
    return None


def check_discards(n_kept: int, discarded: Sequence[Call], *, n_rounds: int) -> None:
    """Raise if more than 10 % of `n_rounds`, and more than one, were discarded."""
    if len(discarded) <= max(1.0, DISCARD_RATIO * n_rounds):
        return
    reasons = Counter(str(call.discarded_because) for call in discarded)
    advice = (
        " `other` may take as long as it does in every round: here it does not. Give work of your "
        "own inside generate() a span, pytest_vlmlatency.span('preprocess'), or make it repeat."
        if any(reason.startswith("other") for reason in reasons)
        else ""
    )
    raise InvalidMeasurement(
        f"{len(discarded)} rounds were discarded and {n_kept} kept; expected at most "
        f"{DISCARD_RATIO:.0%} of all to be disturbed. The reasons: "
        f"{'; '.join(reason for reason, _ in reasons.most_common(3))}.{advice}"
    )
