"""From a model to a configuration that keeps a latency budget, and was seen to keep it.

    python -m benchmarks.end_to_end --budget 60 --output-tokens 8

profiles `dummy:molmoe-nano` on photographs, exports the records, trains and evaluates an estimator,
searches the configurations whose 95th percentiles stay within the budget, takes the largest, and
measures that one again. Each step is a command of `vlmlatency`, printed as it would be typed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import load_estimator
from pytest_vlmlatency.estimator.columns import TIERS, table_of
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.models.images import photograph

Config = dict[str, str | int]
Grid = Mapping[str, Sequence[str | int]]
KNOBS = ("tier", "top_k", "num_active_blocks")
GRID: Grid = {
    "tier": ("low", "medium", "high"),
    "top_k": (4, 8, 12),
    "num_active_blocks": (8, 12, 16),
}
PHOTOGRAPHS = ("coffee", "chelsea", "rocket")
QUESTION = "What is in this picture?"
KEPT, NOT_KEPT, NONE_FITS = 0, 1, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The chosen configuration measured again: medians over calls, and what was predicted."""

    config: Config
    p50_ms: float
    p95_ms: float
    measured_ms: float
    n_within: int  # of the calls, each beside its own 95th percentile
    n_calls: int

    @property
    def is_kept(self) -> bool:
        """Whether the measured median is within the predicted 95th percentile."""
        return self.measured_ms <= self.p95_ms


def main(argv: Sequence[str] | None = None) -> int:
    """Run the whole way; return 0 if the choice kept its P95, 1 if not, 10 if none fits."""
    given = parser().parse_args(argv)
    if given.to is not None:
        return run(given, given.to)
    with tempfile.TemporaryDirectory() as folder:
        return run(given, Path(folder))


def run(given: argparse.Namespace, folder: Path) -> int:
    """Go the whole way, say what came of it, and return the exit status."""
    outcome = go(given, folder)
    if outcome is None:
        sys.stdout.write(f"no configuration stays within {given.budget:g} ms; raise --budget\n")
        return NONE_FITS
    sys.stdout.write(f"{told(outcome)}\n")
    return KEPT if outcome.is_kept else NOT_KEPT


def go(given: argparse.Namespace, folder: Path) -> Outcome | None:
    """Measure, export, train, evaluate, search, measure again; None if nothing fits the budget.

    Files go to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = json.loads(given.grid.read_text(encoding="utf-8")) if given.grid else GRID
    _profile(given, folder, "profiled", grid, _samples(given))
    records, model = folder / "records.jsonl", folder / "estimator.json"
    _command("export", str(folder / "profiled"), "--to", str(records))
    _command("estimator", "train", "--results_dir", str(records), "--output_dir", str(folder))
    _command("estimator", "evaluate", "--results_dir", str(records))
    found = _dearest(given, records, model, grid)
    return None if found is None else _measured_again(given, folder, found)


def told(outcome: Outcome) -> str:
    """Return in a sentence what came of the choice."""
    knobs = " ".join(f"{name}={value}" for name, value in outcome.config.items())
    verdict = "within" if outcome.is_kept else "ABOVE"
    return (
        f"{knobs}: measured again, {outcome.measured_ms:.1f} ms is the median of "
        f"{outcome.n_calls} calls, {verdict} its predicted 95th percentile of "
        f"{outcome.p95_ms:.1f} ms (median {outcome.p50_ms:.1f} ms); of the calls, "
        f"{outcome.n_within} are within their own"
    )


def _samples(given: argparse.Namespace) -> list[dict[str, object]]:
    """Return questions of three lengths about the photographs, with answers of two lengths."""
    n_tokens = (given.output_tokens, max(2, given.output_tokens // 2))
    return [
        _sample(number, n_repeats=1 + number // 3 % 3, n_tokens=n_tokens[number % 2])
        for number in range(given.samples)
    ]


def _sample(number: int, *, n_repeats: int, n_tokens: int) -> dict[str, object]:
    image = f"{PHOTOGRAPHS[number % len(PHOTOGRAPHS)]}.png"
    return {"image": image, "prompt": QUESTION * n_repeats, "max_new_tokens": n_tokens}


def _profile(
    given: argparse.Namespace,
    folder: Path,
    name: str,
    grid: Grid,
    samples: Sequence[Mapping[str, object]],
    rounds: int = 1,
) -> None:
    for photo in PHOTOGRAPHS:
        photograph(photo, longest_side=256).save(folder / f"{photo}.png")
    dataset, configs = folder / f"{name}.jsonl", folder / f"{name}-grid.json"
    dataset.write_text("".join(f"{json.dumps(line)}\n" for line in samples), encoding="utf-8")
    configs.write_text(json.dumps(grid), encoding="utf-8")
    data = ("--dataset", str(dataset), "--configs", str(configs), "--to", str(folder / name))
    how = ("--measure", given.measure, "--rounds", str(rounds))
    _command("profile", "--model", given.model, *data, *how)


def _dearest(given: argparse.Namespace, records: Path, model: Path, grid: Grid) -> Config | None:
    """Return the configuration that fills the budget best, for the longest request; None if none.

    Vision tokens follow the tier, and are the most that its records have.
    """
    table = table_of(records)
    tokens, tiers = table.columns["vision_tokens"], table.columns["tier_idx"]
    vision = ",".join(
        f"{tier}:{tokens[tiers == TIERS.index(str(tier))].max():g}" for tier in grid["tier"]
    )
    n_text = table.columns["text_tokens"].max()
    words = [f"{name}={','.join(map(str, values))}" for name, values in grid.items()]
    budget = ("--budget", f"{given.budget:g}", "--output-tokens", str(given.output_tokens))
    asked = (str(model), *budget, *words, f"vision_tokens={vision}", f"text_tokens={n_text:g}")
    _command("estimator", "search", *asked, accepted=(0, NONE_FITS))
    with redirect_stdout(StringIO()) as printed:
        cli.main(["estimator", "search", *asked, "--json"])
    found = json.loads(printed.getvalue())
    n_steps = given.output_tokens - 1
    dearest = max(found, key=lambda row: row["prefill ms"] + n_steps * row["step ms"], default=None)
    return None if dearest is None else {name: dearest[name] for name in KNOBS}


def _measured_again(given: argparse.Namespace, folder: Path, config: Config) -> Outcome:
    """Measure one configuration on long requests, and ask the estimator about the same calls."""
    config = {n: v if n == "tier" else int(v) for n, v in config.items()}
    samples = [_sample(i, n_repeats=3, n_tokens=given.output_tokens) for i in range(3)]
    grid = {name: [value] for name, value in config.items()}
    _profile(given, folder, "again", grid, samples, rounds=given.rounds)
    table = table_of(folder / "again")
    estimator = load_estimator(folder / "estimator.json", machine=table.machine)
    usual, upper = (
        at[PREFILL] + table.decode_steps * at[DECODE_STEP]
        for at in (estimator.predict_quantile(table.columns, q) for q in (0.5, 0.95))
    )
    measured_ms = table.prefill_ms + table.decode_ms
    return Outcome(
        config=config,
        p50_ms=float(np.median(usual)),
        p95_ms=float(np.median(upper)),
        measured_ms=float(np.median(measured_ms)),
        n_within=int((measured_ms <= upper).sum()),
        n_calls=len(table),
    )


def _command(*words: str, accepted: Sequence[int] = (0,)) -> None:
    """Run one command of vlmlatency, printed first; end with its status if that is not accepted."""
    sys.stdout.write(f"\n$ vlmlatency {' '.join(words)}\n")
    sys.stdout.flush()
    status = cli.main(words)
    if status not in accepted:
        sys.exit(status)


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.end_to_end",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--budget", metavar="MS", type=float, required=True, help="of one request")
    options.add_argument("--output-tokens", metavar="N", type=int, default=8, help="default: 8")
    options.add_argument("--model", metavar="MODEL", default="dummy:molmoe-nano")
    options.add_argument("--grid", metavar="FILE", type=Path, help="JSON (default: all 27)")
    options.add_argument("--samples", metavar="N", type=int, default=18, help="default: 18")
    options.add_argument("--rounds", metavar="N", type=int, default=5, help="of the choice, again")
    options.add_argument("--measure", choices=("wall", "cpu"), default="wall", help="default: wall")
    options.add_argument("--to", metavar="DIR", type=Path, help="keep all files there")
    return options


if __name__ == "__main__":
    sys.exit(main())
