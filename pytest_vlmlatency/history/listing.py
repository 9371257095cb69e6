"""What a history holds, for people and for programs: runs, their cases, and what is unreadable."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.history.location import shortened
from pytest_vlmlatency.printing import plural, printable, short_commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.history.checked_runs import CaseSummary, RunSummary
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.store import Store

GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRun:
    """One run, with the cases that were asked for."""

    id: str
    started_at: str
    commit: str | None
    branch: str | None
    machine: str
    is_dirty: bool
    is_pull_request: bool
    cases: tuple[CaseSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The runs that are shown, oldest first, of how many. `has_cases`: cases were named."""

    url: str
    n_runs: int
    has_cases: bool
    runs: tuple[ListedRun, ...]
    problems: tuple[str, ...]


def listing_of(store: Store, *, cases: Sequence[str] = (), n_last: int = 0) -> Listing:
    """Return the last runs, all with 0; where cases are named, the last that have one of them."""
    index = store.index()
    names = index.names if cases else index.names[-n_last:]
    found, problems = store.summaries(names)
    listed = [_listed(name, found[name], cases) for name in names if name in found]
    having = [run for run in listed if run.cases or not cases]
    return Listing(
        url=store.url,
        n_runs=len(index.names),
        has_cases=bool(cases),
        runs=tuple(having[-n_last:]),
        problems=(*index.problems, *problems),
    )


def page_lines(listing: Listing) -> list[str]:
    """Return the listing as a page: a table of runs, one of cases, and the problems."""
    if not listing.n_runs and not listing.problems:
        return [f"{shortened(listing.url)}: no runs yet"]
    title = f"{shortened(listing.url)}: {plural(listing.n_runs, 'run')}"
    if len(listing.runs) < listing.n_runs:
        title += f", {len(listing.runs)} shown"
    lines = [title]
    if listing.runs:
        lines += ["", *_table(_rows(listing))]
    if listing.runs and not listing.has_cases:
        lines += ["", *_table(_case_rows(listing.runs))]
    if listing.problems:
        lines += ["", "left out:", *(f"{GAP}{problem}" for problem in listing.problems)]
    return lines


def _listed(name: RunName, run: RunSummary, cases: Sequence[str]) -> ListedRun:
    return ListedRun(
        id=name.id,
        started_at=run.started_at,
        commit=name.commit,
        branch=run.branch,
        machine=name.fingerprint,
        is_dirty=name.is_dirty,
        is_pull_request=name.is_pull_request,
        cases=tuple(
            case for case in run.cases if not cases or any(text in case.id for text in cases)
        ),
    )


def _rows(listing: Listing) -> list[tuple[str, ...]]:
    last = ("case", "total") if listing.has_cases else ("cases",)
    rows: list[tuple[str, ...]] = [
        ("started (UTC)", "run", "commit", "branch", "machine", "state", *last)
    ]
    names = iter(told_apart((case.id, case.name) for run in listing.runs for case in run.cases))
    for run in listing.runs:
        state = [word for word, is_so in _states(run) if is_so]
        about = (
            _when(run),
            run.id,
            short_commit(run.commit or "none"),
            run.branch or "-",
            run.machine,
            ", ".join(state) or "clean",
        )
        if listing.has_cases:
            rows += [(*about, next(names), _total(case)) for case in run.cases]
        else:
            rows.append((*about, str(len(run.cases))))
    return rows


def _states(run: ListedRun) -> tuple[tuple[str, bool], ...]:
    return (
        ("pull request", run.is_pull_request),
        ("dirty", run.is_dirty),
        ("no baseline", run.commit is None),
    )


def _case_rows(runs: Sequence[ListedRun]) -> list[tuple[str, ...]]:
    counted = Counter(case.id for run in runs for case in run.cases)
    last = {case.id: case for run in runs for case in run.cases}
    rows: list[tuple[str, ...]] = [("case", "device", "runs", "last total")]
    return rows + [
        (case_id, case.device, str(counted[case_id]), _total(case))
        for case_id, case in sorted(last.items())
    ]


def _when(run: ListedRun) -> str:
    moment = datetime.fromisoformat(run.started_at).astimezone(UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _total(case: CaseSummary) -> str:
    measure = "CPU" if case.measure.startswith("cpu") else "wall"
    return f"{case.median_total_ms:.2f} ms {measure}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
