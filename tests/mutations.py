"""Thirty faults, each put into a copy of the package: which suite notices?

    python -m tests.mutations                  all of them: some 15 minutes of CPU time
    python -m tests.mutations ttft split       those whose names contain one of these words

A fault is killed by `make test` if a test that is not slow fails in the files named with it, and by
`make test-all` if only a slow one does. At least 27 of 30 must be killed by `make test`, and all by
both together. A text that is not found exactly once in its file is an error: the code has moved on,
and so must the fault.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.warm_python import warm_python

ROOT = Path(__file__).parent.parent
PACKAGE = "pytest_vlmlatency"
COPIED = (PACKAGE, "tests", "benchmarks", "docs", ".github")
FILES = ("conftest.py", "pyproject.toml", "Makefile", "README.md", "ARCHITECTURE.md")
FAILED = 1
NEEDED_IN_QUICK = 27


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault: in `file`, `old` becomes `new`; `tests` are what should notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "ttft leaves out prefill in place of decode",
        "records/call.py",
        "return self.total_ms - self.decode_ms",
        "return self.total_ms - self.prefill_ms",
        ("measure/test_delays.py",),
    ),
    Mutation(
        "time per step is by tokens",
        "records/call.py",
        "self.decode_ms / self.n_decode_steps if",
        "self.decode_ms / self.n_output_tokens if",
        ("measure/test_delays.py",),
    ),
    Mutation(
        "contended from half of the time on",
        "records/call.py",
        "CONTENDED_ABOVE = 0.05",
        "CONTENDED_ABOVE = 0.5",
        ("report", "gate/test_comparability.py", "gate/test_flow.py", "measure/test_run.py"),
    ),
    Mutation(
        "a negative time is a span",
        "records/call.py",
        "not math.isfinite(value) or value < 0",
        "not math.isfinite(value)",
        ("history/test_store.py",),
    ),
    Mutation(
        "decode counts as prefill",
        "calls/timeline.py",
        "self.phases[0] = str(Phase.DECODE)",
        "self.phases[0] = str(Phase.PREFILL)",
        ("measure/test_timeline.py", "measure/test_delays.py"),
    ),
    Mutation(
        "time after generate is taken from time before it",
        "calls/timeline.py",
        "before[name] + after[name]",
        "abs(before[name] - after[name])",
        ("measure/test_timeline.py", "measure/test_outside.py"),
    ),
    Mutation(
        "a user's span inside a phase is left out",
        "calls/timeline.py",
        "yield user_span, Place.WITHIN\n            elif",
        "pass\n            elif",
        ("measure/test_timeline.py", "measure/test_labels.py", "measure/test_invariants.py"),
    ),
    Mutation(
        "the share of waiting is of all time",
        "machine/cpu.py",
        "return wait_ns / between_ns",
        "return wait_ns / end.wall_ns",
        ("measure/test_contention.py",),
    ),
    Mutation(
        "CPU times are in microseconds",
        "calls/clock.py",
        "measures[CPU] = (end.cpu_ns - start.cpu_ns) / NS_PER_MS",
        "measures[CPU] = (end.cpu_ns - start.cpu_ns) / 1000",
        ("measure/test_clock.py", "measure/test_run.py"),
    ),
    Mutation(
        "half of the rounds may be discarded",
        "measure/stopping.py",
        "DISCARD_RATIO = 0.10",
        "DISCARD_RATIO = 0.50",
        ("measure/test_invariants.py", "measure/test_rounds.py"),
    ),
    Mutation(
        "the longest round says what is usual",
        "measure/stopping.py",
        "usual_ms = median_low([",
        "usual_ms = max([",
        ("measure/test_invariants.py", "measure/test_rounds.py"),
    ),
    Mutation(
        "a batch of features counts its first size",
        "calls/image_tokens.py",
        "features.numel() // features.shape[-1] if",
        "features.shape[0] if",
        ("measure/test_feature_rows.py", "measure/test_delays.py"),
    ),
    Mutation(
        "a cache as long as the prompt continues it",
        "calls/generation.py",
        "n_cached >= prompt.shape[1]",
        "n_cached > prompt.shape[1] + 1",
        (
            "measure/test_token_facts.py",
            "measure/test_uncommon_calls.py",
            "measure/test_padding.py",
        ),
    ),
    Mutation(
        "an uncertain change is the same",
        "stats/screen.py",
        "abs(self.log) + self.room < math.log1p",
        "abs(self.log) - self.room < math.log1p",
        ("stats",),
    ),
    Mutation(
        "slower is faster",
        "stats/screen.py",
        "Verdict.SLOWER if self.log > 0",
        "Verdict.SLOWER if self.log < 0",
        ("stats",),
    ),
    Mutation(
        "a variance is by n",
        "stats/noise.py",
        "for value in values) / (len(values) - 1)",
        "for value in values) / len(values)",
        ("stats",),
    ),
    Mutation(
        "each look spends all of alpha",
        "stats/rule.py",
        "return self.alpha * due / sum(self.looks)",
        "return self.alpha",
        ("stats",),
    ),
    Mutation(
        "warm-up rounds count",
        "stats/noise.py",
        "kept = sorted(rounds[rule.n_warmup_rounds :])",
        "kept = sorted(rounds)",
        ("stats",),
    ),
    Mutation(
        "more pairs are no surer",
        "stats/judge.py",
        "error=math.sqrt(noise.variance / len(pairs))",
        "error=math.sqrt(noise.variance)",
        ("stats",),
    ),
    Mutation(
        "steps are named only where it got slower",
        "stats/change_points.py",
        "if abs(math.log(step.ratio)) > least",
        "if math.log(step.ratio) > least",
        ("stats/test_trend.py",),
    ),
    Mutation(
        "a baseline is of the oldest runs",
        "gate/baseline.py",
        "if name.id != but})[-MOST_RUNS:]",
        "if name.id != but})[:MOST_RUNS]",
        ("gate/test_baseline.py", "test_plugin_gate_baseline.py"),
    ),
    Mutation(
        "a budget of a kind of device is for none",
        "gate/verdicts.py",
        'kind = device.partition(":")[0]',
        'kind = device.partition(":")[2]',
        ("gate/test_budgets.py",),
    ),
    Mutation(
        "a budget that is met is exceeded",
        "records/gate_report.py",
        "self.measured_ms is None or self.measured_ms > self.budget_ms",
        "self.measured_ms is None or self.measured_ms < self.budget_ms",
        ("gate/test_budgets.py", "report", "stats"),
    ),
    Mutation(
        "undecided ends like slower",
        "records/gate_report.py",
        "UNDECIDED = 11",
        "UNDECIDED = 13",
        ("report", "test_gate_document.py", "test_plugin_gate.py"),
    ),
    Mutation(
        "an exported time per step is by token",
        "export/fields.py",
        "decode_ms / n_steps if n_steps",
        "decode_ms / n_tokens if n_steps",
        ("export",),
    ),
    Mutation(
        "a quantile is a rank too low",
        "estimator/calibration.py",
        "math.ceil((len(ratios) + 1) * q - 1e-9)",
        "math.ceil(len(ratios) * q - 1e-9)",
        ("estimator/test_conformal.py",),
    ),
    Mutation(
        "drift is followed the other way",
        "estimator/state.py",
        "self.log_ratio + weight * pull",
        "self.log_ratio - weight * pull",
        ("estimator/test_drift.py",),
    ),
    Mutation(
        "the largest split is of the smallest",
        "estimator/law_fit.py",
        "top = values >= bound",
        "top = values < bound",
        ("estimator/test_splits.py", "estimator/test_evaluation.py"),
    ),
    Mutation(
        "a history is read newest first",
        "history/store.py",
        "names = sorted({*self.files, *self.folded})",
        "names = sorted({*self.files, *self.folded}, reverse=True)",
        ("history/test_store.py",),
    ),
    Mutation(
        "a file of Python that is deleted may be unread",
        "paired/changes.py",
        "return path not in changes.deleted and path.name != CONFTEST",
        "return path.name != CONFTEST",
        ("paired/test_changes.py",),
    ),
)


def copied(into: Path) -> None:
    """Make the copy that faults are put into."""
    unwanted = shutil.ignore_patterns("__pycache__", ".*_cache")
    for name in COPIED:
        shutil.copytree(ROOT / name, into / name, ignore=unwanted)
    for name in FILES:
        shutil.copy2(ROOT / name, into)


def mutated(mutation: Mutation, copy: Path) -> str:
    """Put a fault into the copy; return the text that was there."""
    file = copy / PACKAGE / mutation.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        sys.exit(
            f"{mutation.name}: {mutation.file} has {mutation.old!r} {text.count(mutation.old)} "
            f"times; expected once: the code has changed, and so must this fault"
        )
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return text


def failing(mutation: Mutation, copy: Path, which: str) -> str | None:
    """Return what failed first among the tests, "not slow" or "slow" ones; None if nothing did."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "--tb=no", "--color=no", "-m", which)
    variables = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    done = subprocess.run(
        [warm_python(), "-m", "pytest", *options, *(f"tests/{test}" for test in mutation.tests)],
        cwd=copy,
        env={**variables, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in {0, 5}:  # all passed, or none was there
        return None
    found = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode != FAILED or not found:
        sys.exit(f"{mutation.name}: pytest ended with {done.returncode}: {done.stdout[-2000:]}")
    return found[0].partition(" - ")[0]


def killed(mutation: Mutation, copy: Path) -> tuple[str, str]:
    """Return which suite notices a fault, and by which test."""
    before = mutated(mutation, copy)
    try:
        for suite, which in (("make test", "not slow"), ("make test-all", "slow")):
            test = failing(mutation, copy, which)
            if test is not None:
                return suite, test
        return "none", ""
    finally:
        (copy / PACKAGE / mutation.file).write_text(before, encoding="utf-8")


def main(words: list[str]) -> int:
    """Print a line for each fault; return 0 where enough are killed."""
    chosen = [one for one in MUTATIONS if not words or any(word in one.name for word in words)]
    suites = []
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for mutation in chosen:
            suite, test = killed(mutation, Path(folder))
            suites.append(suite)
            print(f"{suite:13}  {mutation.name}  ({mutation.file})  {test}", flush=True)  # noqa: T201
    n_quick, n_none = suites.count("make test"), suites.count("none")
    print(f"{n_quick} of {len(chosen)} killed by make test, {n_none} by none")  # noqa: T201
    most_left = len(MUTATIONS) - NEEDED_IN_QUICK
    return int(n_none > 0 or len(chosen) - n_quick > most_left)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
