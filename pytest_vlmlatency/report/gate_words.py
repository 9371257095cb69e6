"""A gate's verdicts in words: what every form of the report says, terminal or not.

Pure: records in, text out. Owns the wording and its digits; the forms own their layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.records import CPU, GateMode, Verdict
from pytest_vlmlatency.report.gate_standing import named_apart
from pytest_vlmlatency.report.terminal import notes_about

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.records import (
        BudgetVerdict,
        CaseVerdict,
        Confirmation,
        GateReport,
        Judgement,
        PhaseVerdict,
    )

PERCENT = 100
MOST_DECIMALS = 4
S_PER_MIN = 60
ANYWHERE = "*"


def change_text(judgement: Judgement) -> str:
    """Return an effect with its interval and what it rests on: `+3.1 % [2.0, 4.2], 5 pairs`."""
    parts = (effect_text(judgement), evidence_text(judgement))
    return ", ".join(part for part in parts if part)


def effect_text(judgement: Judgement) -> str:
    """Return an effect with its interval: `+3.1 % [2.0, 4.2]`; "" where nothing can be said."""
    if judgement.change_ratio is None:
        return ""
    return interval_text(judgement.change_ratio, judgement.low_ratio, judgement.high_ratio)


def interval_text(ratio: float, low_ratio: float | None, high_ratio: float | None) -> str:
    """Return a ratio as a change in percent, with its interval where there is one."""
    effect = f"{_percent(ratio):+.1f} %"
    if low_ratio is None or high_ratio is None:
        return effect
    return f"{effect} [{_percent(low_ratio):.1f}, {_percent(high_ratio):.1f}]"


def evidence_text(judgement: Judgement) -> str:
    """Return what a verdict rests on: fresh pairs of processes where there were any, else runs."""
    if judgement.n_pairs:
        return counted(judgement.n_pairs, "pair")
    return counted(judgement.n_runs, "run") if judgement.n_runs else ""


def probably_text(phase: PhaseVerdict) -> str:
    """Return what an undecided phase probably is: `vision probably slower: 5.0 → 9.9 ms, 1 run`.

    "" where the numbers don't tell.
    """
    if phase.probably is None:
        return ""
    before, now = phase.baseline_ms, phase.candidate_ms
    n_decimals = max(1, _decimals(now if before is None else min(before, now)))
    times = "" if before is None else f"{before:.{n_decimals}f} → "
    what = f"{phase.phase} probably {phase.probably}: {times}{now:.{n_decimals}f} ms"
    return f"{what}, {evidence_text(phase.judgement)}"


def probably_slower_lines(case: CaseVerdict) -> tuple[str, ...]:
    """Return what is undecided in a case and probably slower, a line each."""
    return tuple(map(probably_text, case.phases_that_are_probably(Verdict.SLOWER)))


def shares_text(case: CaseVerdict) -> str:
    """Return which phase did it: `total +41 ms: vision +39, prefill +1, decode +1`.

    The largest first; a part whose share rounds to nothing is left out.
    """
    if not case.shares_ms:
        return ""
    total_ms = sum(case.shares_ms.values())
    n_decimals = _decimals(max(map(abs, (total_ms, *case.shares_ms.values()))))
    rounded = {name: round(ms, n_decimals) + 0.0 for name, ms in case.shares_ms.items()}
    ordered = sorted(rounded.items(), key=lambda share: -abs(share[1]))
    shares = ", ".join(f"{name} {ms:+.{n_decimals}f}" for name, ms in ordered if ms)
    told = f"total {round(total_ms, n_decimals) + 0.0:+.{n_decimals}f} ms"
    return f"{told}: {shares}" if shares else told


def budget_text(budget: BudgetVerdict) -> str:
    """Return one bound and whether it is kept: `ttft 260.3 ms, over its budget of 250 ms`."""
    where = "" if budget.device == ANYWHERE else f" on {budget.device}"
    bound = f"its budget of {budget.budget_ms:g} ms{where}"
    if budget.measured_ms is None:
        return f"{budget.quantity} is undefined here, so {bound} is not kept"
    side = "over" if budget.is_over else "within"
    n_decimals = max(1, _decimals(budget.measured_ms))
    return f"{budget.quantity} {budget.measured_ms:.{n_decimals}f} ms, {side} {bound}"


def quarantine_text(case: CaseVerdict) -> str:
    """Return that, why and until when a case is quarantined; "" if it is not."""
    if case.terms.mode is not GateMode.REPORT:
        return ""
    why, until = case.terms.why, case.terms.until
    if case.is_quarantine_past:
        return (
            f"Its quarantine ended on {until}: {why}. It still does not fail: let it fail "
            f"again, or give it a new date"
        )
    return f"Quarantined until {until}, so it does not fail: {why}"


def failing_phases(case: CaseVerdict) -> tuple[str, ...]:
    """Return the names of what fails in a case: phases first, then quantities over a budget."""
    slower = [phase.phase for phase in case.phases_that_are(Verdict.SLOWER)]
    over = [budget.quantity for budget in case.budgets if budget.is_over]
    return tuple(dict.fromkeys([*slower, *over]))


def failure_lines(case: CaseVerdict) -> tuple[str, ...]:
    """Return what fails in a case, a sentence each: phases first, then budgets."""
    slower = (
        f"{phase.phase} is slower: {change_text(phase.judgement)}"
        for phase in case.phases_that_are(Verdict.SLOWER)
    )
    over = (budget_text(budget) for budget in case.budgets if budget.is_over)
    return (*slower, *over)


def confirmation_text(confirmation: Confirmation) -> str:
    """Return what was measured anew, and what cut it short."""
    minutes, seconds = divmod(round(confirmation.time_s), S_PER_MIN)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    pairs = counted(confirmation.n_pairs, "pair")
    what = f"Confirmed with {pairs}" if confirmation.n_pairs else "Measured no pair"
    sides = f"{confirmation.baseline} against {confirmation.candidate}"
    measured = f"{what} of fresh processes in {time}: {sides}"
    cut = confirmation.cut_short_because
    return f"{measured}; cut short: {cut}." if cut else f"{measured}."


def measures_text(cases: Iterable[CaseVerdict]) -> str:
    """Return what kind of time the judged cases were compared by; "" if none was judged."""
    measures = {case.measure for case in cases if case.phases}
    if not measures:
        return ""
    cpu, wall = CPU in measures, measures != {CPU}
    kind = "CPU or wall" if cpu and wall else "CPU" if cpu else "Wall"
    return (
        f"{kind} time in ms, as the gate values a run; the change with its interval, and what it "
        f"rests on."
    )


def remarks_on(report: GateReport, *, has_times: bool) -> list[str]:
    """Return what stands below the verdicts: what they rest on, and what else to know of them.

    `has_times`: there is a table above whose times need a word.
    """
    return [
        *([f"Baseline: {report.baseline}."] if report.baseline else []),
        *map(confirmation_text, report.confirmations),
        *_failures_of(report),
        *([text] if has_times and (text := measures_text(report.cases)) else []),
        *notes_about((case.case_name, case.notes) for case in named_apart(report.cases)),
        *report.remarks,
        *([text] if (text := accept_text(report)) else []),
    ]


def _failures_of(report: GateReport) -> list[str]:
    """Return what could not be measured, without what stands beside the case as its reason."""
    beside = [
        (f"{case.test}: ", reason)
        for case in report.cases
        if (reason := case.reason.partition(": ")[2])
    ]
    return [
        text
        for one in report.confirmations
        for text in one.failures
        if not any(text.endswith(f"{test}{reason}") for test, reason in beside)
    ]


def accept_text(report: GateReport) -> str:
    """Return how a change that is slower on purpose is accepted; "" where none fails, or can be."""
    is_slower = any(case.fails and case.phases_that_are(Verdict.SLOWER) for case in report.cases)
    if not is_slower or not report.accept_as:
        return ""
    return (
        f"If this is intended, accept the new level and commit the file that this writes: "
        f'vlmlatency accept {report.accept_as} --why "the reason"'
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 pair`, `5 pairs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: `vision, prefill and decode`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _percent(ratio: float) -> float:
    return round((ratio - 1) * PERCENT, 1) + 0.0  # no "-0.0"


def _decimals(size: float) -> int:
    """Return the fewest decimals that show two digits of a time in ms."""
    n_decimals = 0
    while n_decimals < MOST_DECIMALS and 0 < abs(size) * 10**n_decimals < 10:
        n_decimals += 1
    return n_decimals
