"""`vlmlatency accept`: its options and help, and what it writes. Imports nothing heavy at first."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import short_commit, tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import RunHeader

NAME = "accept"
SUMMARY = "pin a run: later ones are compared with it, until another is accepted"
DESCRIPTION = """\
Accept the latency of a run as what later ones are judged against. Without it
the baseline moves on with each commit, so that a creep of 0.1 % a commit is
never found, and a change that is slower on purpose fails every branch.

REF (default: HEAD) means its newest clean run on each machine that measured it;
RUN is one run by its id, even one of uncommitted changes. Judging then compares
with the clean runs of that commit on that machine, and with no other.

VERDICT is the JSON file of --vlm-verdict, as a pull request's job left it: no
history is needed. Judging then measures the accepted commit again. Where that
is gone, because the request was squashed, it measures the commit that brought
the pin.

The pin is a small file for each machine, .vlm_accepted/<fingerprint>.json, that
is meant to be committed: whoever reviews the commit accepts the level with it.
"""
EXAMPLES = """\
examples:
  vlmlatency accept --why "release 1.2"
  vlmlatency accept v1.2 --why "release 1.2"
  vlmlatency accept 3f9c2a71 --case "test_caption[512]" --why "a larger tower"
  vlmlatency accept verdict.json --why "two more layers in the tower"

exit status: 0 accepted, 1 not accepted, 2 usage error, 12 git does not work
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A run to be accepted: its header, and its cases' names by their ids."""

    header: RunHeader
    names: Mapping[str, str]

    @property
    def is_dirty(self) -> bool:
        """Whether it was measured with uncommitted changes."""
        return self.header.commit is not None and self.header.commit.is_dirty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "which", metavar="REF|RUN|VERDICT", nargs="?", default="HEAD", help="what to accept"
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
    from pytest_vlmlatency.history.location import repository_root  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import is_file  # noqa: PLC0415 - light --help

    root = repository_root(Path.cwd())
    if root is None:
        raise UsageProblem(
            f"there is no repository around {Path.cwd()}, and a pin is a file to be committed"
        )
    if not given.why.strip():
        raise UsageProblem("--why is empty; expected the reason, for those who review the pin")
    file = Path(given.which)
    runs = (_of_verdict(file),) if is_file(file) else _stored(given.which, given.history)
    for accepted in runs:
        cases = None if given.cases is None else _case_ids(given.cases, accepted)
        path = _pin(root, accepted, why=_text(given.why).strip(), cases=cases)
        tell(*_accepted_lines(root, path.relative_to(root), accepted, cases))
    return 0


def _stored(which: str, history: str | None) -> tuple[Accepted, ...]:
    """Return the stored runs that a text names, the newest one of each machine."""
    from pytest_vlmlatency.gate.named_runs import names_of  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.location import named_or_default  # noqa: PLC0415 - light --help

    store = named_or_default(history, is_readonly=True)
    stored = store.read(_newest_by_machine(names_of(which, store.index().names)))
    if stored.problems:
        raise UsageProblem(f"a run cannot be accepted: {'; '.join(stored.problems)}")
    return tuple(
        Accepted(header=run.header, names={case.case_id: case.case_name for case in run.cases})
        for run in stored.runs
    )


def _of_verdict(file: Path) -> Accepted:
    """Return the run that a verdict file is of; UsageProblem where it can't be compared with."""
    from pytest_vlmlatency.report.gate_verdict import run_in_verdict  # noqa: PLC0415 - light --help

    report = run_in_verdict(file)
    header = report.candidate
    if header is None:
        raise UsageProblem(f"{file} is of no run: the gate judged nothing ({report.title})")
    if header.commit is None or header.commit.is_dirty:
        state = "outside of any commit" if header.commit is None else "with uncommitted changes"
        raise UsageProblem(
            f"{file} is of run {header.id}, measured {state}, and holds no times to compare with; "
            f"commit and measure again, or accept the run by its id where the history has it"
        )
    return Accepted(header=header, names=report.names)


def _newest_by_machine(names: Sequence[RunName]) -> list[RunName]:
    return list({name.fingerprint: name for name in sorted(names)}.values())


def _case_ids(texts: Sequence[str], run: Accepted) -> tuple[str, ...]:
    """Return the ids of the cases that are named; UsageProblem for one that the run lacks."""
    from pytest_vlmlatency.case_ids import told_apart  # noqa: PLC0415 - light --help

    ids = []
    names = told_apart(run.names.items())
    for text in texts:
        found = [
            case_id
            for (case_id, name), shown in zip(run.names.items(), names, strict=True)
            if text in (case_id, name, shown)
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


def _text(argument: str) -> str:
    """Return an argument as UTF-8 has it, whatever encoding the process was started with."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")


def _pin(root: Path, run: Accepted, *, why: str, cases: tuple[str, ...] | None) -> Path:
    from pytest_vlmlatency.gate.pins import Pin, add_pin  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.records import fingerprint_of, machine_facts  # noqa: PLC0415

    header, environment = run.header, run.header.environment
    facts = machine_facts(environment).items()
    pin = Pin(
        run=header.id,
        commit=None if header.commit is None else header.commit.id,
        started_at=header.started_at,
        accepted_on=datetime.now(UTC).date().isoformat(),
        why=why,
        cases=cases,
    )
    machine = [f"{fact}: {value}" for fact, value in facts]
    return add_pin(root, fingerprint_of(environment), pin, machine=machine)


def _accepted_lines(
    root: Path, path: Path, run: Accepted, cases: Sequence[str] | None
) -> list[str]:
    from pytest_vlmlatency.paired.git import asked  # noqa: PLC0415 - light --help

    header = run.header
    rule = asked(root, "check-ignore", "--verbose", "--", str(path))
    next_step = (
        f"git ignores that file ({rule.partition(chr(9))[0]}): remove that rule, then commit the "
        f"file, or no other clone has the pin"
        if rule
        else "commit that file"
    )
    of = "all cases" if cases is None else ", ".join(cases)
    commit = "no commit" if header.commit is None else f"commit {short_commit(header.commit.id)}"
    doubt = [
        "  It was measured with uncommitted changes: a gate can compare with it, and not measure "
        "it again."
    ]
    done = f"Accepted run {header.id} of {commit} for {of}, in {path}: {next_step}."
    return [done, *doubt] if run.is_dirty else [done]
