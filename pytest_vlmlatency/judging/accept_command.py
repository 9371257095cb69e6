"""`vlmlatency accept`: its options and help, and what it writes. Imports nothing heavy at first."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history.arguments import add_history

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import RunRounds

NAME = "accept"
SUMMARY = "pin a run: later ones are compared with it, until another is accepted"
DESCRIPTION = """\
Accept the latency of a run as what later ones are judged against. Without it
the baseline moves on with each commit, so that a creep of 0.1 % a commit is
never found, and a change that is slower on purpose fails every branch.

REF (default: HEAD) means its newest clean run on each machine that measured it;
RUN is one run by its id, even one of uncommitted changes. Judging then compares
with the clean runs of that commit on that machine, and with no other.

The pin is a small file for each machine, .vlm_accepted/<fingerprint>.json, that
is meant to be committed: whoever reviews the commit accepts the level with it.
"""
EXAMPLES = """\
examples:
  vlmlatency accept --why "release 1.2"
  vlmlatency accept v1.2 --why "release 1.2"
  vlmlatency accept 3f9c2a71 --case "test_caption[512]" --why "a larger tower"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "which", metavar="REF|RUN", nargs="?", default="HEAD", help="what to accept"
    )
    parser.add_argument("--why", metavar="TEXT", required=True, help="the reason, for reviewers")
    parser.add_argument(
        "--case",
        metavar="CASE",
        action="append",
        dest="cases",
        help="accept it for this case only, by name or id; may be given several times",
    )
    add_history(parser)


def run(given: argparse.Namespace) -> int:
    """Write a pin for each machine; return the exit status."""
    from pytest_vlmlatency.history.location import (  # noqa: PLC0415 - light --help
        named_or_default,
        repository_root,
    )
    from pytest_vlmlatency.judging.naming import names_of  # noqa: PLC0415 - as above

    root = repository_root(Path.cwd())
    if root is None:
        raise UsageProblem(
            f"there is no repository around {Path.cwd()}, and a pin is a file to be committed"
        )
    if not given.why.strip():
        raise UsageProblem("--why is empty; expected the reason, for those who review the pin")
    store = named_or_default(given.history, is_readonly=True)
    names = _newest_by_machine(names_of(given.which, store.index().names))
    stored = store.read(names)
    if stored.problems:
        raise UsageProblem(f"a run cannot be accepted: {'; '.join(stored.problems)}")
    for name, accepted in zip(names, stored.runs, strict=True):
        cases = None if given.cases is None else _case_ids(given.cases, accepted)
        path = _pin(root, name, accepted, why=given.why.strip(), cases=cases)
        sys.stdout.write(_told(path.relative_to(root), name, cases))
    return 0


def _newest_by_machine(names: Sequence[RunName]) -> list[RunName]:
    return list({name.fingerprint: name for name in sorted(names)}.values())


def _case_ids(texts: Sequence[str], run: RunRounds) -> tuple[str, ...]:
    """Return the ids of the cases that are named; UsageProblem for one that the run lacks."""
    from pytest_vlmlatency.case_ids import told_apart  # noqa: PLC0415 - light --help

    ids = []
    names = told_apart((case.case_id, case.case_name) for case in run.cases)
    known = list(zip(names, run.cases, strict=True))
    for text in texts:
        found = [
            case.case_id for name, case in known if text in (case.case_id, case.case_name, name)
        ]
        if len(found) != 1:
            near = get_close_matches(text, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageProblem(
                f"--case {text!r} is {len(found)} cases of run {run.header.id}; expected a name or "
                f"an id of one{hint} It has {', '.join(names)}."
            )
        ids += found
    return tuple(ids)


def _pin(
    root: Path, name: RunName, run: RunRounds, *, why: str, cases: tuple[str, ...] | None
) -> Path:
    from pytest_vlmlatency.judging.pins import Pin, add_pin  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.records import fingerprint_of, machine_facts  # noqa: PLC0415

    environment = run.header.environment
    facts = machine_facts(environment).items()
    pin = Pin(
        run=name.id,
        commit=name.commit,
        started_at=run.header.started_at,
        accepted_on=datetime.now(UTC).date().isoformat(),
        why=why,
        cases=cases,
    )
    machine = [f"{fact}: {value}" for fact, value in facts]
    return add_pin(root, fingerprint_of(environment), pin, machine=machine)


def _told(path: Path, name: RunName, cases: Sequence[str] | None) -> str:
    of = "all cases" if cases is None else ", ".join(cases)
    commit = "no commit" if name.commit is None else f"commit {name.commit[:9]}"
    doubt = (
        "  It was measured with uncommitted changes: a gate can compare with it, and not measure "
        "it again.\n"
        if name.is_dirty
        else ""
    )
    return f"Accepted run {name.id} of {commit} for {of}, in {path}: commit that file.\n{doubt}"
