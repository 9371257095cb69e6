"""The options that say where runs are kept: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, history

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "--vlm-history",
        "URL",
        history,
        "string",
        "Where every run that measured is kept: a folder, or a URL that fsspec reaches (s3://, "
        "gs://, ...); 'none' keeps nothing. Default: .vlm_latency/ in the repository; nothing is "
        "kept outside of one.",
    ),
    Setting(
        "--vlm-history-readonly",
        None,
        None,
        "bool",
        "Read the history, and keep this run nowhere: for pull requests from forks.",
    ),
)
