"""Training records of two generated machines whose true times are known.

A block's time is that of launching its kernels on the host and that of computing on the device,
overlapped: the larger of both, rounded (a norm of order 2). The launch-bound machine spends most of
it on launches, as an accelerator does that runs the experts of a mixture one by one. The
compute-bound machine computes tiles of tokens, and is much slower above 6 experts, where their
weights no longer fit the cache.

Records cover 27 configurations and 9 data sets. Their noise, outliers and a shift of each job (a
data set under a configuration) are stated, so the error of a perfect predictor is known.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Record = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedMachine:
    """What decides its times; all of them in ms, for one block where nothing else is said."""

    name: str
    fingerprint: str
    vision_ms: float
    vision_token_ms: float
    fixed_ms: float  # of each forward, whatever its blocks: embedding, head, sampling
    launch_ms: float
    launch_expert_ms: float
    token_ms: float
    token_expert_ms: float
    token_pair_ms: float
    step_launch_ms: float
    step_launch_expert_ms: float
    step_weights_ms: float
    step_expert_weights_ms: float
    step_context_token_ms: float
    tile_tokens: int
    cliff_top_k: float  # above it, experts cost cliff_ratio times as much
    cliff_ratio: float

    def vision_times_ms(self, columns: Mapping[str, Floats]) -> Floats:
        """Return the time of vision of each row."""
        return self.vision_ms + self.vision_token_ms * columns["vision_tokens"]

    def llm_prefill_times_ms(self, columns: Mapping[str, Floats]) -> Floats:
        """Return the decoder's time for the prompt of each row."""
        top_k = columns["top_k"]
        n_tokens = columns["vision_tokens"] + columns["text_tokens"]
        n_computed = np.ceil(n_tokens / self.tile_tokens) * self.tile_tokens
        computing = n_computed * (self.token_ms + self.token_expert_ms * self._experts(top_k))
        computing += n_tokens**2 * self.token_pair_ms
        launching = self.launch_ms + self.launch_expert_ms * top_k
        return self.fixed_ms + columns["num_active_blocks"] * np.hypot(launching, computing)

    def prefill_total_ms(self, columns: Mapping[str, Floats]) -> Floats:
        """Return the time of vision and of the decoder's prompt of each row."""
        return self.vision_times_ms(columns) + self.llm_prefill_times_ms(columns)

    def step_times_ms(self, columns: Mapping[str, Floats], decode_steps: Floats) -> Floats:
        """Return the mean time of each row's decode steps, of which it has so many."""
        top_k = columns["top_k"]
        context = columns["vision_tokens"] + columns["text_tokens"] + (decode_steps + 1) / 2
        reading = self.step_weights_ms + self.step_expert_weights_ms * self._experts(top_k)
        reading = reading + self.step_context_token_ms * context
        launching = self.step_launch_ms + self.step_launch_expert_ms * top_k
        return self.fixed_ms + columns["num_active_blocks"] * np.hypot(launching, reading)

    def _experts(self, top_k: Floats) -> Floats:
        return top_k * np.where(top_k > self.cliff_top_k, self.cliff_ratio, 1.0)


LAUNCH_BOUND = GeneratedMachine(
    name="launch-bound",
    fingerprint="generated-launch-bound",
    vision_ms=7.0,
    vision_token_ms=0.013,
    fixed_ms=0.8,
    launch_ms=6.2,
    launch_expert_ms=0.5,
    token_ms=1.5e-3,
    token_expert_ms=2e-4,
    token_pair_ms=8e-7,
    step_launch_ms=2.4,
    step_launch_expert_ms=0.11,
    step_weights_ms=0.3,
    step_expert_weights_ms=0.02,
    step_context_token_ms=1e-4,
    tile_tokens=1,
    cliff_top_k=float("inf"),
    cliff_ratio=1.0,
)
COMPUTE_BOUND = GeneratedMachine(
    name="compute-bound",
    fingerprint="generated-compute-bound",
    vision_ms=15.0,
    vision_token_ms=0.12,
    fixed_ms=1.5,
    launch_ms=0.5,
    launch_expert_ms=0.02,
    token_ms=5e-3,
    token_expert_ms=8e-4,
    token_pair_ms=2e-6,
    step_launch_ms=0.4,
    step_launch_expert_ms=0.01,
    step_weights_ms=0.6,
    step_expert_weights_ms=0.12,
    step_context_token_ms=4e-4,
    tile_tokens=64,
    cliff_top_k=6.0,
    cliff_ratio=1.5,
)


SCHEMA_VERSION = 1
TIERS = ("low", "medium", "high")
TOP_KS = (4, 8, 12)
BLOCKS = (8, 12, 16)
CONFIGURATIONS = tuple(itertools.product(TIERS, TOP_KS, BLOCKS))
CROPS = {"low": (1, 2), "medium": (3, 4), "high": (5, 6)}
TOKENS_OF_A_CROP = 144
N_EDGE_TOKENS = 20
"""At most: an image's shape decides how many tokens mark the ends of its rows."""
DATASETS = {  # mean text tokens, and mean output tokens after the first
    "coco_2014_vqa": (25, 2),
    "coco_caption": (18, 12),
    "doc_qa": (40, 5),
    "mmmu": (120, 3),
    "okvqa": (28, 2),
    "science_qa_img": (150, 4),
    "st_qa": (30, 4),
    "tally_qa": (24, 1),
    "text_vqa": (32, 4),
}
OTHER_MS = 0.4
MAX_OUTPUT_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Standard deviations are of the logarithm; an outlier takes so many times as long."""

    call_sd: float = 0.027
    job_sd: float = 0.005
    outlier_share: float = 0.005
    outlier_ratios: tuple[float, float] = (1.3, 3.0)

    def perfect_mape(self) -> float:
        """Return the mean |y - truth| / y of a perfect predictor, in percent.

        With y = truth * r: the mean of |1 - 1/r|, which for small s of a normal log r is
        s * sqrt(2 / pi); of an outlier, its mean over ratios that are equally likely.
        """
        low, high = self.outlier_ratios
        usual = float(np.hypot(self.call_sd, self.job_sd)) * np.sqrt(2 / np.pi)
        outlier = 1 - np.log(high / low) / (high - low)
        share = self.outlier_share
        return float(100 * ((1 - share) * usual + share * outlier))


SILENT = Noise(call_sd=0.0, job_sd=0.0, outlier_share=0.0)


def generate_records(
    machine: GeneratedMachine,
    *,
    n_of_configuration: int = 2000,
    seed: int = 3407,
    noise: Noise | None = None,
    configurations: Sequence[tuple[str, int, int]] = CONFIGURATIONS,
) -> list[Record]:
    """Return the records of all configurations, the data sets of each in turn."""
    rng = np.random.default_rng(seed)
    noise = noise or Noise()
    shares = np.array_split(np.arange(n_of_configuration), len(DATASETS))
    return [
        record
        for configuration in configurations
        for dataset, share in zip(DATASETS, shares, strict=True)
        for record in _job(machine, configuration, dataset, len(share), noise, rng)
    ]


def write_results(folder: Path, records: Sequence[Record]) -> None:
    """Write records as an experiment leaves them: a file for each data set and configuration."""
    by_file: dict[str, list[Record]] = {}
    for record in records:
        by_file.setdefault(str(record["source"]), []).append(record)
    for name, own in by_file.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"per_sample_results": own}), encoding="utf-8")


def _job(
    machine: GeneratedMachine,
    configuration: tuple[str, int, int],
    dataset: str,
    n_rows: int,
    noise: Noise,
    rng: np.random.Generator,
) -> list[Record]:
    tier, top_k, blocks = configuration
    columns = _workload(tier, dataset, n_rows, rng)
    columns |= {"top_k": np.full(n_rows, float(top_k))}
    columns |= {"num_active_blocks": np.full(n_rows, float(blocks))}
    steps = columns.pop("decode_steps")
    job_ratio = np.exp(rng.normal(0, noise.job_sd))
    prefill_ratios = job_ratio * _ratios(n_rows, noise, rng)
    decode_ratios = job_ratio * _ratios(n_rows, noise, rng)
    times = {
        "T_vision_total": machine.vision_times_ms(columns) * prefill_ratios,
        "T_LLM_prefill": machine.llm_prefill_times_ms(columns) * prefill_ratios,
        "T_LLM_decode": machine.step_times_ms(columns, steps) * steps * decode_ratios,
        "T_other": OTHER_MS * np.exp(rng.normal(0, 0.1, n_rows)),
    }
    shared: Record = {
        "schema_version": SCHEMA_VERSION,
        "tier": tier,
        "top_k": top_k,
        "num_active_blocks": blocks,
        "batch_size": 1,
        "configuration": {"tier": tier, "top_k": top_k, "num_active_blocks": blocks},
        "machine": machine.fingerprint,
        "source": f"{dataset}/tier-{tier}_topk-{top_k}_blocks-{blocks}.json",
    }
    rows = zip(*({**columns, **times, "steps": steps}[name] for name in _ROW), strict=True)
    return [shared | _measured([float(value) for value in row]) for row in rows]


_ROW = (
    "vision_tokens",
    "text_tokens",
    "steps",
    "T_vision_total",
    "T_LLM_prefill",
    "T_LLM_decode",
    "T_other",
)


def _measured(row: Sequence[float]) -> Record:
    vision_tokens, text_tokens, steps, vision_ms, prefill_ms, decode_ms, other_ms = row
    n_output_tokens = int(steps) + 1
    return {
        "actual_vision_tokens": int(vision_tokens),
        "actual_text_tokens": int(text_tokens),
        "output_tokens": n_output_tokens,
        "decode_steps": int(steps),
        "T_vision_total": vision_ms,
        "T_LLM_prefill": prefill_ms,
        "T_LLM_decode": decode_ms,
        "T_other": other_ms,
        "T_prefill_total": vision_ms + prefill_ms,
        "T_total": vision_ms + prefill_ms + decode_ms + other_ms,
        "T_decode_per_token": decode_ms / n_output_tokens,
        "T_decode_per_step": decode_ms / steps,
    }


def _workload(tier: str, dataset: str, n_rows: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Return tokens and steps: the image decides one, the data set the others."""
    mean_text_tokens, mean_steps = DATASETS[dataset]
    crops = rng.choice(CROPS[tier], n_rows)
    edges = rng.integers(0, N_EDGE_TOKENS, n_rows, endpoint=True)
    text = np.exp(rng.normal(np.log(mean_text_tokens), 0.35, n_rows))
    steps = np.minimum(rng.geometric(1 / (1 + mean_steps), n_rows), MAX_OUTPUT_TOKENS - 1)
    return {
        "vision_tokens": (crops * TOKENS_OF_A_CROP + edges).astype(float),
        "text_tokens": np.maximum(5.0, np.round(text)),
        "decode_steps": steps.astype(float),
    }


def _ratios(n_rows: int, noise: Noise, rng: np.random.Generator) -> Floats:
    usual = np.exp(rng.normal(0, noise.call_sd, n_rows))
    is_outlier = rng.random(n_rows) < noise.outlier_share
    return np.asarray(np.where(is_outlier, rng.uniform(*noise.outlier_ratios, n_rows), usual))


def true_times_ms(
    machine: GeneratedMachine, columns: Mapping[str, Floats], decode_steps: Floats
) -> dict[str, Floats]:
    """Return what a perfect predictor says of rows: it knows the machine, and no noise."""
    return {
        "T_prefill_total": machine.prefill_total_ms(columns),
        "T_decode_per_step": machine.step_times_ms(columns, decode_steps),
    }
