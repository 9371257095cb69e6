"""Errors of each estimator on two generated machines, and the default estimator's speed.

The error is shown beside that of a perfect predictor, which knows the machine and misses its noise
alone. `python -m benchmarks.evidence.estimator_accuracy` takes minutes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.evidence._estimator_methods import (
    DEFAULT,
    METHODS,
    MOST_OF_ORIGIN,
    SEED,
    errors_of,
    is_dead,
)
from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import table as table_text
from pytest_vlmlatency.estimator.columns import CONFIGURATION, Table, table_of
from pytest_vlmlatency.estimator.evaluation import judge
from pytest_vlmlatency.estimator.law_fit import configuration_folds, random_folds
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.search import config_grid
from tests.generated_records import (
    COMPUTE_BOUND,
    LAUNCH_BOUND,
    Noise,
    generate_records,
    true_times_ms,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.estimator.columns import Table
    from tests.generated_records import GeneratedMachine


N_BATCH = 100_000
N_SINGLE = 2_000
N_REQUESTS = 10_000
FASTEST = {
    "one prediction": 1e-4,
    "a row of 100,000": 1e-6,
    "1,000,000 pairs of a configuration and a request": 1.0,
    "training on 54,000 records in columns": 2.0,
    "training on 54,000 records as dicts, reading and checking them included": 2.0,
}
"""The most seconds that each may take, on one core."""


def time_default(records: Sequence[Mapping[str, object]], table: Table) -> dict[str, float]:
    """Return the seconds of each of FASTEST; the table is that of the records."""
    estimator = RooflineEstimator()
    from_columns_s = _quickest(lambda: estimator.fit(table), 3)
    from_dicts_s = _quickest(lambda: RooflineEstimator().fit(records), 3)
    one = {name: float(table.columns[name][0]) for name in estimator.inputs}
    many = {name: np.resize(table.columns[name], N_BATCH) for name in estimator.inputs}
    grid = config_grid(tier=["low"], top_k=range(4, 14), num_active_blocks=range(7, 17))
    requests = {
        name: np.resize(table.columns[name], N_REQUESTS)
        for name in ("text_tokens", "vision_tokens")
    }

    def single() -> None:
        for _ in range(N_SINGLE):
            estimator.predict(one)

    seconds = (
        _quickest(single, 5) / N_SINGLE,
        _quickest(lambda: estimator.predict_batch(many), 5) / N_BATCH,
        _quickest(lambda: estimator.feasible_pairs(grid, requests, 150, 8, quantile=0.95), 5),
        from_columns_s,
        from_dicts_s,
    )
    return dict(zip(FASTEST, seconds, strict=True))


def _quickest(call: Callable[[], object], n_rounds: int) -> float:
    """Return the seconds of the quickest round: others were disturbed."""
    seconds = []
    for _ in range(n_rounds):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


NAME = "estimator_accuracy"
MACHINES = {"launch-bound": LAUNCH_BOUND, "compute-bound": COMPUTE_BOUND}
NOISE_ALONE = Noise(job_sd=0, outlier_share=0)
FEW = 50
N_PROBES = 100_000
N_SEEDS = 8
RATIOS = {  # at most so many times the perfect predictor's error
    ("launch-bound", "random"): 1.15,
    ("launch-bound", "unseen configurations"): 1.15,
    ("launch-bound", "extrapolation"): 1.4,
    ("launch-bound", "50 records"): 1.4,
    ("compute-bound", "random"): 1.6,
    ("compute-bound", "unseen configurations"): 1.6,
}
BOUNDS = {  # of prefill and decode, at 2.7 % noise and nothing else
    "random": (0.023, 0.028),
    "unseen configurations": (0.025, 0.028),
    "extrapolation": (0.035, 0.035),
    "50 records": (0.030, 0.032),
}
COVERED = (0.93, 0.97)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one split of one machine: mean relative errors, of prefill and decode."""

    machine: str
    split: str
    method: str
    errors: tuple[float, float]
    perfect: tuple[float, float]
    training_s: float

    @property
    def ratio(self) -> float:
        """The larger of both errors in parts of the perfect predictor's."""
        return max(own / best for own, best in zip(self.errors, self.perfect, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All rows; coverage by machine and target; violations among probes; seconds by what."""

    rows: tuple[Row, ...]
    noise_alone: tuple[Row, ...]
    coverage: dict[str, float]
    n_dead: int  # of N_SEEDS starts of the origin's network
    n_violations: int
    seconds: dict[str, float]


def splits_of(table: Table) -> dict[str, tuple[Table, Table]]:
    """Return what to train on and what to judge by, for each split."""
    out = random_folds(len(table), 5)[0]
    unseen = configuration_folds(table.configuration, 5)[0]
    top = np.any([table.columns[name] == table.columns[name].max() for name in CONFIGURATION], 0)
    few = np.random.default_rng(SEED).choice(np.flatnonzero(~out), FEW, replace=False)
    return {
        "random": (table.rows(~out), table.rows(out)),
        "unseen configurations": (table.rows(~unseen), table.rows(unseen)),
        "extrapolation": (table.rows(~top), table.rows(top)),
        "50 records": (table.rows(few), table.rows(out)),
    }


def compare(
    machine: GeneratedMachine, methods: Mapping[str, object], table: Table
) -> tuple[Row, ...]:
    """Return a row for each method on each split."""
    rows = []
    for split, (known, judged) in splits_of(table).items():
        truth = true_times_ms(machine, judged.columns, judged.decode_steps)
        perfect = errors_of(DEFAULT, truth, judged)
        for method in methods:
            say(f"{machine.name}, {split}: {method}")
            began = time.perf_counter()
            predict = METHODS[method](known)
            took_s = time.perf_counter() - began
            row = Row(
                machine=machine.name,
                split=split,
                method=method,
                errors=errors_of(method, predict(judged), judged),
                perfect=perfect,
                training_s=took_s,
            )
            rows.append(row)
    return tuple(rows)


def measure(records: Mapping[str, Sequence[Mapping[str, object]]]) -> Figures:
    """Compare on both machines, and look at the default's coverage, order and speed."""
    tables = {name: table_of(own) for name, own in records.items()}
    rows = [
        row for name, table in tables.items() for row in compare(MACHINES[name], METHODS, table)
    ]
    quiet = table_of(generate_records(LAUNCH_BOUND, noise=NOISE_ALONE, seed=SEED))
    coverage, n_violations = {}, 0
    for name, table in tables.items():
        known, unseen = splits_of(table)["random"]
        estimator = RooflineEstimator().fit(known)
        for target, score in judge(estimator, unseen).scores().items():
            assert score.coverage is not None, "the default knows its quantiles"
            coverage[f"{name} {target}"] = score.coverage
        n_violations += count_violations(estimator)
    return Figures(
        rows=tuple(rows),
        noise_alone=compare(LAUNCH_BOUND, {DEFAULT: None}, quiet),
        coverage=coverage,
        n_dead=sum(is_dead(SEED + more, tables["launch-bound"]) for more in range(N_SEEDS)),
        n_violations=n_violations,
        seconds=time_default(records["launch-bound"], tables["launch-bound"]),
    )


def count_violations(estimator: RooflineEstimator) -> int:
    """Return how many of random requests are predicted less time once one input is larger."""
    rng = np.random.default_rng(SEED)
    highs = {"vision_tokens": 3000, "text_tokens": 1000, "top_k": 32, "num_active_blocks": 48}
    low = {name: rng.uniform(0, high, N_PROBES) for name, high in highs.items()}
    raised = rng.integers(0, len(highs), N_PROBES)
    high = {
        name: np.where(raised == index, values + rng.uniform(0, highs[name], N_PROBES), values)
        for index, (name, values) in enumerate(low.items())
    }
    first, second = estimator.predict_batch(low), estimator.predict_batch(high)
    return int(sum(np.sum(second[target] < first[target]) for target in (PREFILL, DECODE_STEP)))


def judge_figures(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the default, and whether it holds."""
    default = {(row.machine, row.split): row for row in figures.rows if row.method == DEFAULT}
    ratios = [
        Claim(
            text=f"On the {machine} machine, {split}, the default's error is at most {bound} times "
            f"the perfect predictor's.",
            holds=default[machine, split].ratio <= bound,
            seen=f"{default[machine, split].ratio:.3f} times.",
        )
        for (machine, split), bound in RATIOS.items()
    ]
    absolute = [
        Claim(
            text=f"At 2.7 % noise and nothing else, launch-bound, {row.split}: at most "
            f"{_percent(BOUNDS[row.split])} (prefill/decode).",
            holds=all(own <= most for own, most in zip(row.errors, BOUNDS[row.split], strict=True)),
            seen=f"{_percent(row.errors)}.",
        )
        for row in figures.noise_alone
    ]
    low, high = COVERED
    shares = figures.coverage.values()
    return (
        *ratios,
        *absolute,
        Claim(
            text=f"P95 holds for {low:.0%} to {high:.0%} of records held out at random.",
            holds=low <= min(shares) and max(shares) <= high,
            seen=f"{min(shares):.1%} to {max(shares):.1%}.",
        ),
        Claim(
            text=f"No larger request is predicted less time, in {N_PROBES:,} probes a machine.",
            holds=figures.n_violations == 0,
            seen=f"{figures.n_violations} violations.",
        ),
        *(
            Claim(
                text=f"The default's time of {what} is under {_time(bound)}.",
                holds=figures.seconds[what] < bound,
                seen=f"{_time(figures.seconds[what])}.",
            )
            for what, bound in FASTEST.items()
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table, a row for each method and a column for each split."""
    rows = evidence.figures.rows
    columns = list(dict.fromkeys((row.machine, row.split) for row in rows))
    cells = {(row.machine, row.split, row.method): row for row in rows}
    lines = [
        [method, *(_percent(cells[*column, method].errors) for column in columns)]
        for method in METHODS
    ]
    perfect = [_percent(cells[*column, DEFAULT].perfect) for column in columns]
    seconds = [
        [method, f"{cells['launch-bound', 'random', method].training_s:.1f} s"]
        for method in METHODS
    ]
    names = [f"{machine}, {split}" for machine, split in columns]
    return (
        "Mean absolute percentage errors, prefill/decode, of what was held out; outliers are in. "
        f"A machine has 27 configurations of 2,000 records; noise {Noise().call_sd:.1%} a call, "
        f"{Noise().job_sd:.1%} a job, {Noise().outlier_share:.1%} outliers. The origin's recipe is "
        f"trained on {MOST_OF_ORIGIN:,} records at most, as its 50 epochs of all take minutes, is "
        "judged by decode / N, which it predicts, and starts from the first seed with which both "
        f"of its heads are alive: with {evidence.figures.n_dead} of {N_SEEDS} they are not.\n\n"
        + table_text(["estimator", *names], [["perfect", *perfect], *lines])
        + "\n\nTraining, launch-bound, random (the default's with its quantiles):\n\n"
        + table_text(["estimator", "training"], seconds)
    )


def _percent(errors: tuple[float, float]) -> str:
    return "/".join(f"{100 * error:.2f}" for error in errors)


def _time(seconds: float) -> str:
    if seconds > 0.1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.0f} ms" if seconds > 1e-3 else f"{1e6 * seconds:.2f} us"


def main() -> int:
    """Measure, judge, publish; return the exit status."""
    torch.set_num_threads(1)
    started_at = now()
    records = {
        name: list(generate_records(machine, seed=SEED)) for name, machine in MACHINES.items()
    }
    figures = measure(records)
    return publish_figures(
        NAME,
        figures,
        judge_figures,
        describe,
        seed=SEED,
        started_at=started_at,
        environment=read_machine(),
    )


if __name__ == "__main__":
    sys.exit(main())
