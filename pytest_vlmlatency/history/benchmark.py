"""Our phases as pytest-benchmark entries, for the tools that read its files.

Owns what an entry says. pytest-benchmark offers no documented way in: `Metadata` and the session's
`benchmarks` are what its own fixture uses, and a contract test pins what is used of them here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.records import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.records import Call, Case, Scalar

MS_PER_S = 1000
OUTPUTS = ("save", "autosave", "json", "compare", "compare_fail", "histogram", "columns")
"""The options of pytest-benchmark that show or keep its entries beside our table."""

_PHASES = (Phase.VISION, Phase.PREFILL, Phase.DECODE)


class Entry(Protocol):
    """What is used of `pytest_benchmark.stats.Metadata`."""

    def update(self, duration: float) -> None:
        """Add one sample, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What an entry reads of the fixture that it usually belongs to."""

    name: str
    fullname: str
    group: str
    param: str | None
    params: Mapping[str, str] | None
    extra_info: Mapping[str, Scalar | Mapping[str, Scalar]]
    cprofile_stats: None = None
    has_error: bool = field(default=False)


def entries_of(case: Case) -> list[Entry]:
    """Return an entry for each phase that took time in every round, and for the total.

    A phase of 0 (vision without an image) has none: a baseline of 0 would fail every comparison.
    The samples are of the case's gating measure, since entries are there to be compared.
    """
    from pytest_benchmark.stats import Metadata  # noqa: PLC0415 - asked for by an option only

    entries = []
    for phase, times_ms in phase_times(case).items():
        if not times_ms or min(times_ms) <= 0:
            continue
        owner = _owner(case, phase)
        entry: Entry = Metadata(owner, iterations=1, options={})  # type: ignore[no-untyped-call]  # ships no types
        for time_ms in times_ms:
            entry.update(float(time_ms) / MS_PER_S)
        entries.append(entry)
    return entries


def is_asked_for(option: Callable[[str], object]) -> bool:
    """Return whether one of `OUTPUTS` was asked for; `option` reads pytest's value of a name.

    Before 5.3 the columns of an option that nobody gave are pytest-benchmark's own, so there
    those ask for nothing, also where somebody names just them.
    """
    given = {name: option(f"benchmark_{name}") for name in OUTPUTS}
    if given["columns"] == _own_columns():
        del given["columns"]
    return any(given.values())


def phase_times(case: Case) -> dict[str, Sequence[float]]:
    """Return the samples of each entry in ms, by the name of the phase."""
    measure = case.gating_measure
    calls = case.calls
    times: dict[str, Sequence[float]] = {
        str(phase): [call.phase_time(phase, measure) for call in calls] for phase in _PHASES
    }
    times["per_step"] = [
        time_ms for call in calls if (time_ms := _per_step(call, measure)) is not None
    ]
    times["total"] = [call.total[measure] for call in calls]
    return times


def _own_columns() -> object:
    """Return what pytest-benchmark's option for columns holds where it was not given."""
    from pytest_benchmark.plugin import add_display_options  # noqa: PLC0415 - in a run with it only

    defaults: dict[str, object] = {}

    def note(name: str, *, default: object, **_: object) -> None:
        defaults[name] = default

    add_display_options(note)  # type: ignore[no-untyped-call]  # ships no types
    return defaults["--benchmark-columns"]


def _per_step(call: Call, measure: str) -> float | None:
    if not call.n_decode_steps:
        return None
    return call.phase_time(Phase.DECODE, measure) / call.n_decode_steps


def _owner(case: Case, phase: str) -> Owner:
    """Name an entry `test_x:phase[params]`: grouping by function cuts at the bracket."""
    head, _, params = (case.test or case.id).partition("[")
    path, _, function = head.rpartition("::")
    given = [params.removesuffix("]")] if params else []
    config = {name: str(value) for name, value in (case.config or {}).items()}
    param = "-".join([*given, *(f"{name}={value}" for name, value in config.items())])
    name = f"{function}:{phase}[{param}]" if param else f"{function}:{phase}"
    return Owner(
        name=name,
        fullname=f"{path}::{name}" if path else name,
        group=phase,
        param=param or None,
        params={**case.params, **config} or None,
        extra_info=_extra_info(case),
    )


def _extra_info(case: Case) -> dict[str, Scalar | Mapping[str, Scalar]]:
    first = case.calls[0]
    return {
        "measure": case.gating_measure,
        "device": case.device,
        "config": dict(case.config or {}),
        "n_vision_tokens": first.n_vision_tokens,
        "n_text_tokens": first.n_text_tokens,
        "n_output_tokens": first.n_output_tokens,
    }
