"""Timing bounds: whether one round was disturbed, and how many may be.

Pure. A disturbed round is discarded, kept in the file, and measured again; too many fail the case.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.allocator import FlushEvidence
from pytest_vlmlatency.records import CPU, DEVICE, WALL, Call, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.invariants import Observation

OTHER_FLOOR_MS = 5.0
OTHER_RATIO = 0.02
"""Bound of `other`: medians of 1.5 to 1.8 ms were seen for preamble and input preparation."""
DEVICE_TOLERANCE_RATIO = 0.01
DEVICE_TOLERANCE_MS = 0.02
"""Host and device time of a span may differ by 1 % and 20 us for each of its two boundaries."""
DISCARD_RATIO = 0.10
"""More discarded rounds than this fail the case; a single one never does."""


def timing_problem(seen: Observation) -> str | None:
    """Return why a round was disturbed, None if its timing bounds hold.

    `other` is judged on CPU time where the host computes: on wall time, busy neighbours break it.
    On wall time if that is less, since the CPU time of several threads counts waiting ones too.
    """
    call = seen.call
    if seen.evidence is FlushEvidence.COLD:
        return seen.evidence.basis
    if seen.n_compiled:
        return f"torch.compile compiled {seen.n_compiled} frames inside the call"
    times_ms = {
        measure: call.phase_time(Phase.OTHER, measure)
        for measure in (CPU, WALL)
        if measure in call.total
    }
    measure = min(times_ms, key=lambda name: times_ms[name])
    other_ms = times_ms[measure]
    bound_ms = bound_of_other_ms(call.total[measure])
    if other_ms > bound_ms:
        return f"other took {other_ms:.2f} {measure}, more than its bound of {bound_ms:.2f}"
    return _clocks_problem(call) if DEVICE in call.total else None


def bound_of_other_ms(total_ms: float) -> float:
    """Return how long `other` may take in a call of so many ms."""
    return max(OTHER_FLOOR_MS, OTHER_RATIO * total_ms)


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
        " Work of your own inside generate() is no `other` with a span around it: "
        "pytest_vlmlatency.span('preprocess')."
        if any(reason.startswith("other") for reason in reasons)
        else ""
    )
    raise InvalidMeasurement(
        f"{len(discarded)} rounds were discarded and {n_kept} kept; expected at most "
        f"{DISCARD_RATIO:.0%} of all to be disturbed. The reasons: "
        f"{'; '.join(reason for reason, _ in reasons.most_common(3))}.{advice}"
    )
