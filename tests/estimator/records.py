"""Records as an export holds them, with the boring fields supplied."""


def a_record(**fields: object) -> dict[str, object]:
    record: dict[str, object] = {
        "actual_vision_tokens": 576,
        "actual_text_tokens": 32,
        "output_tokens": 8,
        "tier": "medium",
        "top_k": 8,
        "num_active_blocks": 16,
        "T_vision_total": 10.0,
        "T_LLM_prefill": 50.0,
        "machine": "aa",
    } | fields
    steps = int(str(record["output_tokens"])) - 1
    record.setdefault("T_LLM_decode", 20.0 * steps or 0.3)  # a last look, where no step ran
    return {name: value for name, value in record.items() if value is not None}
