"""Two machines of our own making: how long a phase takes on them, without noise. Pure.

A block's time is what launching its kernels takes on the host and what computing takes on the
device, overlapped: the larger of both, rounded (a norm of order 2). The launch-bound machine spends
most of it on launches, as an accelerator does that runs a mixture of experts one by one. The
compute-bound one computes tiles of tokens, and falls off a cliff above 6 experts, where their
weights leave the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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
