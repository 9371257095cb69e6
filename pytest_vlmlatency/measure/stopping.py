"""When to stop measuring. Pure, and kept apart from how to measure (after nvbench's criteria).

Stop after `MIN_ROUNDS` rounds once the relative noise of the median is under its target or has
stopped falling; at the time limit with at least `MIN_ROUNDS_IN_TIME`; at `MAX_ROUNDS` always.

Timing bounds: whether one round was disturbed, and how many may be.

Pure. A disturbed round is discarded, kept in the file, and measured again; too many fail the case.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from statistics import median, median_low
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.machine.allocator import FlushEvidence
from pytest_vlmlatency.records import CPU, DEVICE, WALL, Call, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.invariants import Observation


MIN_ROUNDS = 10
MIN_ROUNDS_IN_TIME = 3
"""A run with fewer rounds has no spread worth the name."""
MAX_ROUNDS = 100
LOOK_BACK = 5
"""Rounds over which the noise must have fallen."""
MIN_FALL_RATIO = 0.98
"""Noise falls as 1/sqrt(n): from n=95 to n=100 by 2.5 %. Less than 2 %, twice, is no fall."""
MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for normal noise: 1 / Phi^-1(3/4)."""
MEDIAN_TO_MEAN = math.sqrt(math.pi / 2)
"""Standard error of a median to that of a mean, for normal noise and many rounds."""
TARGET_NOISE_RATIO = {"cpu": 0.01, "device": 0.005}
"""Relative standard error of the median; calls of one CPU thread vary by 3.4 %, a GPU's by less."""


def stop_reason(
    times_ms: Sequence[float], *, elapsed_s: float, max_time_s: float, is_cpu: bool
) -> str | None:
    """Return why to stop after these rounds, None to go on."""
    n_rounds = len(times_ms)
    if n_rounds >= MAX_ROUNDS:
        return f"{MAX_ROUNDS} rounds"
    if n_rounds >= MIN_ROUNDS_IN_TIME and elapsed_s >= max_time_s:
        return f"time limit of {max_time_s:g} s"
    if n_rounds < MIN_ROUNDS:
        return None
    target = TARGET_NOISE_RATIO["cpu" if is_cpu else "device"]
    noise = noise_ratio(times_ms)
    if noise <= target:
        return f"noise of the median under {target:.1%}"
    looks = [noise_ratio(times_ms[: n_rounds - back]) for back in (0, LOOK_BACK, 2 * LOOK_BACK)]
    has_looked = n_rounds >= MIN_ROUNDS + 2 * LOOK_BACK
    if has_looked and all(now > before * MIN_FALL_RATIO for now, before in pairwise(looks)):
        return "noise stopped falling"
    return None


def noise_ratio(times_ms: Sequence[float]) -> float:
    """Return the standard error of the median relative to it, 0 for constant times.

    By the median absolute deviation, which an outlier does not move; the factors make both hold
    for normal noise.
    """
    if len(times_ms) < 2:
        return math.inf
    middle = median(times_ms)
    deviation = MAD_TO_SIGMA * median(abs(time_ms - middle) for time_ms in times_ms)
    return MEDIAN_TO_MEAN * deviation / math.sqrt(len(times_ms)) / middle if middle else 0.0


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
