"""Builders of records with boring values, so that a test says only what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.export.fields import Record


def an_origin_record(**fields: object) -> Record:
    """Return a record as the origin wrote them: rounded, without a version."""
    given: Record = {
        "actual_vision_tokens": 384,
        "actual_text_tokens": 53,
        "output_tokens": 11,
        "tier": "low",
        "top_k": 4,
        "num_active_blocks": 12,
        "T_vision_total": 11.93,
        "T_LLM_prefill": 99.25,
        "T_LLM_decode": 38.85,
        "T_decode_per_token": 3.53,
        "T_total": 151.2,
    }
    return given | fields


def a_record(number: int = 0, **fields: object) -> Record:
    """Return a record of this version; another number is another call."""
    given: Record = {
        "schema_version": 1,
        "actual_vision_tokens": 100,
        "actual_text_tokens": 20,
        "output_tokens": 5,
        "T_vision_total": 10.0,
        "T_LLM_prefill": 50.0,
        "T_LLM_decode": 40.0,
        "T_total": 101.0,
        "T_other": 1.0,
        "batch_size": 1,
        "configuration": {"tier": "low", "top_k": 4, "num_active_blocks": 8},
        "machine": "0123456789ab",
        "dataset": "coco",
        "source": f"run/case#{number}",
    }
    return given | fields
