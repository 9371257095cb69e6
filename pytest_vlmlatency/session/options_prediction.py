"""The option that lays an estimator's predictions beside what is measured: a table."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, existing_file

PREDICT = "--vlm-predict"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        PREDICT,
        "MODEL.json",
        existing_file,
        None,
        "Show what this estimator predicts beside what is measured, and flag cases that are off by "
        "more than its interval. See docs/estimator.md.",
    ),
)
