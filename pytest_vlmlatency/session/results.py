"""What the controller makes of the parcels: pytest-benchmark's entries, a Run, a file, a table.

Loaded only where something was measured. Knows the modules that store and report, and decides
nothing that they decide.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.history.benchmark import entries_of, is_asked_for
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.printing import plural, print_line, printable
from pytest_vlmlatency.records import Case, Environment, Run, with_devices_of_all
from pytest_vlmlatency.report.predicted import off_lines
from pytest_vlmlatency.report.terminal import (
    discovery_lines,
    named_apart,
    summary_lines,
    title_of,
    wrapped,
)
from pytest_vlmlatency.session.keeping import is_pull_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pytest

    from pytest_vlmlatency.history.benchmark import Entry
    from pytest_vlmlatency.session.delivery import Parcel

MS_PER_S = 1000
ID_BYTES = 8  # random: no two runs of a history are ever called the same
LONG_WAIT_MS = 1000  # shorter waits are no answer to "why did this take so long?"


def hand_to_benchmark(
    config: pytest.Config, parcel: Parcel, *, instead_of: Iterable[Entry] = ()
) -> list[Entry]:
    """Give the phases to pytest-benchmark, if one of its outputs was asked for; return its entries.

    Otherwise its table would repeat ours, and without the spread that makes it worth reading. The
    entries of an earlier attempt at the test are taken back.
    """
    session = getattr(config, "_benchmarksession", None)
    if session is None or not is_asked_for(lambda name: config.getoption(name, None)):
        return []
    entries = [entry for case in cases_of(parcel) for entry in entries_of(case)]
    old = set(map(id, instead_of))
    session.benchmarks[:] = [one for one in session.benchmarks if id(one) not in old]
    session.benchmarks += entries
    return entries


def run_of(
    cases: Sequence[Case],
    *,
    environments: Iterable[str],
    lost: Iterable[str],
    started_at: str,
    root: Path,
) -> Run:
    """Return the whole run; its environment is the workers' own, with all of their devices."""
    from pytest_vlmlatency.machine.commit import read_commit  # noqa: PLC0415 - asks git

    read = [from_plain(Environment, json.loads(text)) for text in environments]
    return Run(
        started_at=started_at,
        environment=with_devices_of_all(read),
        commit=read_commit(root),
        cases=tuple(cases),
        lost=tuple(lost),
        id=secrets.token_hex(ID_BYTES),
        is_pull_request=is_pull_request(os.environ),
    )


def save(run: Run, path: Path) -> str:
    """Write a run to a file, and return what to tell of it."""
    write_run(run, path)
    return f"Wrote {plural(len(run.cases), 'case')} to {path}."


def export(run: Run, target: Path) -> list[str]:
    """Write a run as training records, and return what to tell of it."""
    from pytest_vlmlatency.export import records_of  # noqa: PLC0415 - only if asked
    from pytest_vlmlatency.export.contention import Contention  # noqa: PLC0415 - as above
    from pytest_vlmlatency.export.writing import write_checked  # noqa: PLC0415 - as above

    found = records_of(run)
    left_out = [
        f"Not exported, {reason}: {one.count} calls, such as {one.first[0]}"
        for reason, one in found.left_out.items()
    ]
    if not found.records:
        reasons = "; ".join(left_out) or "no case was measured"
        raise RecordsProblem(f"there is no record to write to {target}: {reasons}")
    write_checked(found.records, target, is_kept=True)
    contention = Contention()
    for record in found.records:
        contention.add(record)
    return [
        f"Exported {len(found.records)} records to {target}.",
        *left_out,
        *(f"Warning, {line}." for line in contention.lines()),
    ]


def print_summary(
    reporter: pytest.TerminalReporter,
    cases: Sequence[Case],
    *,
    waited_ms: float,
    lost: Sequence[str],
    remarks: Iterable[str],
    untested: Iterable[str],
) -> None:
    """Print the table, as wide as it needs to be unless a terminal would wrap it.

    `untested` are warnings of versions, which a run without any case has, too.
    """
    width = reporter.config.get_terminal_writer().fullwidth if reporter.isatty else None
    cases = named_apart(cases)
    reporter.write_sep("-", printable(title_of(cases)), yellow=True)
    for line in summary_lines(cases, width=width):
        print_line(reporter, line)
    for line in wrapped(off_lines(cases), width):
        print_line(reporter, line, red=True, bold=True)
    for line in wrapped(untested, width):
        print_line(reporter, line, yellow=True)
    for line in wrapped([f"Lost with its worker: {test}" for test in lost], width):
        print_line(reporter, line, red=True)
    if reporter.config.get_verbosity() > 0:
        for line in wrapped(discovery_lines(cases), width):
            print_line(reporter, line)
    waits = (
        [f"Waited {waited_ms / MS_PER_S:.0f} s for others on the same device to end."]
        if waited_ms > LONG_WAIT_MS
        else []
    )
    for line in wrapped([*waits, *remarks], width):
        print_line(reporter, line)


def cases_of(parcel: Parcel) -> list[Case]:
    """Return the cases of a parcel."""
    return [from_plain(Case, json.loads(text)) for text in parcel["cases"]]
