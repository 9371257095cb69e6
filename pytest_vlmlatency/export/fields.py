"""The names in a record, their order, and what is computed from others.

The names and meanings up to T_total are those of the project that the format comes from, and never
change: T_decode_per_token is decode over N tokens, though N tokens take N - 1 decode steps. The
rate of a step has a name of its own, T_decode_per_step. Times are milliseconds.
"""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]
"""One call as it is exported: JSON values by the names below, and others that pass unread."""

SCHEMA_VERSION = 1
"""Of the records. Those without a version are the origin's own."""
RESULTS = "per_sample_results"
TIERS = ("low", "medium", "high")
KNOBS = ("tier", "top_k", "num_active_blocks")

COUNTS = ("actual_vision_tokens", "actual_text_tokens", "output_tokens")
TIMES = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode")
PARQUET_TYPES = {
    "schema_version": "BIGINT",
    "actual_vision_tokens": "BIGINT",
    "actual_text_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "tier": "VARCHAR",
    "top_k": "BIGINT",
    "num_active_blocks": "BIGINT",
    "T_vision_total": "DOUBLE",
    "T_LLM_prefill": "DOUBLE",
    "T_LLM_decode": "DOUBLE",
    "T_decode_per_token": "DOUBLE",
    "T_total": "DOUBLE",
    "decode_steps": "BIGINT",
    "T_decode_per_step": "DOUBLE",
    "T_other": "DOUBLE",
    "batch_size": "BIGINT",
    "measure": "VARCHAR",
    "machine": "VARCHAR",
    "dataset": "VARCHAR",
    "source": "VARCHAR",
}
"""The columns of a Parquet file; a configuration and further fields are JSON beside them."""
DIGEST = "record_digest"
"""Of what a record held when it was written: whatever was changed in it since is not believed."""
CONFIGURATION = "configuration"
FURTHER = "further"
WALL_MS = "wall_ms"


def derived(record: Record) -> Record:
    """Return what follows from a checked record: never read from a file, always computed."""
    n_tokens, decode_ms = record["output_tokens"], record["T_LLM_decode"]
    n_steps = n_tokens - 1
    tier = record.get("tier")
    return {
        "T_prefill_total": record["T_vision_total"] + record["T_LLM_prefill"],
        "T_decode_per_token": decode_ms / n_tokens,
        "decode_steps": n_steps,
        "T_decode_per_step": decode_ms / n_steps if n_steps else None,
        "tier_idx": None if tier is None else TIERS.index(tier),
    }
