"""The options that hand a run on as training records: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, records_target

EXPORT = "--vlm-export"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        EXPORT,
        "DIR",
        records_target,
        None,
        "Write a training record for each kept call: DIR/<dataset>/<configuration>.json, or one "
        "file that ends in .json, .jsonl or .parquet. What is there stays. See docs/export.md.",
    ),
)
