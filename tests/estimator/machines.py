"""Simulated machines whose law is known: records of them, with the noise that a test asks for."""

from __future__ import annotations

import numpy as np

TOP_K = (4, 6, 8, 10, 12)
BLOCKS = (8, 10, 12, 14, 16)
VISION = {"low": 200, "medium": 450, "high": 900}


def prefill_ms(
    tokens: float, vision: float, top_k: float, blocks: float, cliff: float = 0
) -> float:
    per_block = 0.4 + 0.002 * tokens + 0.00035 * tokens * top_k + 4e-7 * tokens**2
    return 3 + 0.02 * vision + blocks * (per_block + cliff * (top_k > 6))


def step_ms(tokens: float, top_k: float, blocks: float, cliff: float = 0) -> float:
    return 1.5 + blocks * (0.8 + 0.09 * top_k + 0.0002 * tokens + cliff * (top_k > 6))


def simulated(
    n_records: int,
    *,
    noise: float = 0.027,
    seed: int = 0,
    cliff: float = 0.0,
    factor: float = 1.0,
    outliers: float = 0.0,
) -> list[dict[str, object]]:
    """Return records; `noise` is relative, an outlier takes 1.5 to 3 times as long."""
    random = np.random.default_rng(seed)
    records: list[dict[str, object]] = []
    for _ in range(n_records):
        tier = str(random.choice(list(VISION)))
        top_k, blocks = int(random.choice(TOP_K)), int(random.choice(BLOCKS))
        vision = int(VISION[tier] * random.uniform(0.7, 1.1))
        text, n_tokens = int(random.integers(10, 120)), int(1 + random.geometric(0.12))
        tokens = vision + text
        is_slow = random.random() < outliers
        slow = factor * (random.uniform(1.5, 3) if is_slow else 1.0)
        prefill = slow * prefill_ms(tokens, vision, top_k, blocks, cliff)
        decode = slow * (n_tokens - 1) * step_ms(tokens, top_k, blocks, cliff) or 0.2
        prefill *= 1 + noise * random.standard_normal()
        decode *= 1 + noise * random.standard_normal()
        records.append(
            {
                "actual_vision_tokens": vision,
                "actual_text_tokens": text,
                "output_tokens": n_tokens,
                "tier": tier,
                "top_k": top_k,
                "num_active_blocks": blocks,
                "T_vision_total": 0.25 * prefill,
                "T_LLM_prefill": 0.75 * prefill,
                "T_LLM_decode": decode,
                "machine": "aa",
                "source": "slow" if is_slow else "usual",
            }
        )
    return records
