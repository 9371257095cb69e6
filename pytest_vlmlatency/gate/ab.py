"""Two commits measured against each other now: fresh pairs alone, with no history.

Owns how pairs become a question to `flow`, which judges as it does for a gate.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.gate.comparisons import CaseBaseline
from pytest_vlmlatency.gate.flow import Question, answer
from pytest_vlmlatency.gate.repository import Sameness, sameness
from pytest_vlmlatency.gate.verdicts import budgets_of
from pytest_vlmlatency.paired.changes import changes_between, read_by
from pytest_vlmlatency.paired.checkouts import open_checkouts
from pytest_vlmlatency.paired.launch import survey
from pytest_vlmlatency.paired.pairs import Bar, FreshPairs
from pytest_vlmlatency.records import CaseState, CaseVerdict, GateReport, run_rounds_of
from pytest_vlmlatency.stats import GateRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_vlmlatency.paired.changes import Read
    from pytest_vlmlatency.paired.checkouts import Checkouts
    from pytest_vlmlatency.records import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class AbRequest:
    """What is to be compared: two refs of the repository at `root`, and how.

    `args` are pytest's, as they would be given in `folder`.
    """

    root: Path
    folder: Path
    refs: tuple[str, str]
    args: tuple[str, ...]
    paths: tuple[str, ...]
    setup: str | None
    time_limit_s: float
    is_strict: bool = False
    is_fail_fast: bool = False
    is_skipping_unchanged: bool = False


def compare_commits(
    request: AbRequest, *, say: Callable[[str], None], bar: Bar | None = None
) -> GateReport:
    """Measure both commits in fresh pairs of processes until every phase is decided.

    Ctrl-C and SIGTERM raise KeyboardInterrupt before the first pair is measured; later, the pairs
    that are there are judged.
    """
    before, after = request.refs
    opened = open_checkouts(
        request.root,
        baseline=before,
        candidate=after,
        setup=request.setup,
        paths=request.paths,
        say=say,
    )
    with opened as checkouts:
        invocation, tests, imported = survey(checkouts, request.args, folder=request.folder)
        same = _sameness(request, checkouts, read_by(tests, imported))
        if same.reason:
            return _unmeasured_report(request, checkouts, tests, same)
        pairs = FreshPairs(
            checkouts,
            invocation,
            time_limit_s=request.time_limit_s,
            say=say,
            bar=bar,
            limit_option="--confirm-time",
        )
        first = pairs.extend_to(GateRule().looks[0], tests)
        if not first and pairs.interrupted_by:
            raise KeyboardInterrupt
        if not first:
            raise NotConfirmed(f"not one pair was measured: {pairs.cut_short_because}")
        question = _question(request, checkouts, first[0].candidate)
        report = answer(question, lambda _commit: nullcontext(pairs))
        unmeasured = _unmeasured(pairs, first[0].candidate)
        return replace(
            report,
            not_applied_because=(*report.not_applied_because, *unmeasured),
            remarks=(*report.remarks, *same.remarks),
        )


def _sameness(request: AbRequest, checkouts: Checkouts, read: Read) -> Sameness:
    """Return whether both commits are the same code; the same name twice asks for the noise."""
    before, after = checkouts.baseline.commit, checkouts.candidate.commit
    if request.refs[0] == request.refs[1]:
        return Sameness()
    candidate = checkouts.candidate.root
    changes = changes_between(candidate, before, after, read)
    if changes is None:
        return Sameness()
    return sameness(candidate, before, changes, read, is_skipping=request.is_skipping_unchanged)


def _unmeasured_report(
    request: AbRequest, checkouts: Checkouts, tests: Sequence[str], same: Sameness
) -> GateReport:
    """Return the report of two commits that are the same, with the tests as cases."""
    return GateReport(
        candidate=None,
        baseline=f"{request.refs[0]} ({checkouts.baseline.described})",
        cases=tuple(
            CaseVerdict(
                case_id=test,
                case_name=test.rpartition("::")[2],
                test=test,
                device="not measured",
                state=CaseState.JUDGED,
                reason=same.reason,
            )
            for test in tests
        ),
        remarks=same.remarks,
        is_strict=request.is_strict,
    )


def _question(request: AbRequest, checkouts: Checkouts, run: Run) -> Question:
    """Return the question whether a run of the second commit is slower than the first commit."""
    candidate = run_rounds_of(run)
    commit = checkouts.baseline.commit
    measured = [case for case in run.cases if case.is_measured and case.calls]
    return Question(
        candidate=candidate,
        today=datetime.now(UTC).date(),
        baseline=f"{request.refs[0]} ({checkouts.baseline.described}), measured now",
        baselines={
            case.case_id: CaseBaseline(rounds=(), commit=commit) for case in candidate.cases
        },
        budgets={case.id: budgets_of(case, run.environment) for case in measured},
        is_strict=request.is_strict,
        is_fail_fast=request.is_fail_fast,
    )


def _unmeasured(pairs: FreshPairs, run: Run) -> tuple[str, ...]:
    """Return the tests that the second commit could not measure itself: nothing speaks for them."""
    measured = {case.test for case in run.cases}
    return tuple(
        f"{failure.test} could not be measured on the {failure.side}: {failure.reason}"
        for failure in pairs.failures
        if failure.test not in measured
    )
